//! Addresses as people write them.

use std::net::IpAddr;

use tonic::codegen::http::Uri;

/// Where a server is.
#[derive(Debug)]
pub(crate) struct Address {
    /// As tonic wants it.
    pub(crate) target: String,
    pub(crate) tls: bool,
    /// A Unix socket or loopback.
    pub(crate) local: bool,
}

impl Address {
    /// The error is for a person.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("unix:") {
            return Ok(Self { target: text.into(), tls: false, local: true });
        }
        let bad = || format!("{text:?} is no address of a server: expected https://host[:port], http://host[:port] or unix:/path");
        let uri: Uri = text.parse().map_err(|_| bad())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(bad)?;
        if uri.path() != "/" || uri.query().is_some() {
            return Err(bad());
        }
        let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let local = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
        Ok(Self { target: text.into(), tls, local })
    }

    /// Nobody else reads what is sent there.
    pub(crate) fn is_private(&self) -> bool {
        self.tls || self.local
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn takes_what_people_write() {
        for (text, tls, local) in [
            ("https://h", true, false),
            ("https://h:1/", true, false),
            ("http://localhost:1", false, true),
            ("http://127.0.0.1", false, true),
            ("http://[::1]:5", false, true),
            ("http://192.0.2.1", false, false),
            ("unix:/a/b", false, true),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.tls, address.local), (tls, local), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in ["", "h:443", "ftp://h", "https://h/path", "https://h?q", "https://"] {
            assert!(Address::parse(text).unwrap_err().contains("expected https://"), "{text}");
        }
    }
}
