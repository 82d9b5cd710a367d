//! The connection, and what every call carries.

use std::fmt;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{GrpcMethod, Request, Status};

use crate::address::Address;
use crate::api::events::v1::events_service_client::EventsServiceClient;
use crate::api::jobs::v1::jobs_service_client::JobsServiceClient;
use crate::api::licenses::v1::license_servers_service_client::LicenseServersServiceClient;
use crate::api::licenses::v1::licenses_service_client::LicensesServiceClient;
use crate::api::sessions::v1::sessions_service_client::SessionsServiceClient;
use crate::api::tokens::v1::tokens_service_client::TokensServiceClient;

/// What the server sends at most.
const RECEIVE_LIMIT_BYTES: usize = 64 * 1024 * 1024;
/// What the server takes from tools at most.
const SEND_LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// A connection that is dead without a word is noticed. Servers refuse to be asked more than every five minutes.
const PING: Duration = Duration::from_secs(360);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Calls with more than one answer or request, which last as long as they like.
const STREAMS: [&str; 5] = ["Watch", "Follow", "Subscribe", "Hold", "Shell"];

/// What stubs call: the connection, with [`Credentials`] on each call.
pub type Service = InterceptedService<Channel, Credentials>;

/// One connection to Serai with all its services. A clone uses the same connection.
#[derive(Clone, Debug)]
pub struct Client {
    service: Service,
    pub(crate) patience: Duration,
}

macro_rules! stubs {
    ($($name:ident: $stub:ident),*) => {$(
        /// The generated stub; as cheap as a clone.
        pub fn $name(&self) -> $stub<Service> {
            $stub::new(self.service.clone())
                .max_decoding_message_size(RECEIVE_LIMIT_BYTES)
                .max_encoding_message_size(SEND_LIMIT_BYTES)
        }
    )*};
}

impl Client {
    /// For an address: `https://host[:port]`, `http://host[:port]` without TLS, or `unix:/path/of/socket`.
    pub fn builder(address: impl Into<String>) -> Builder {
        Builder {
            address: address.into(),
            token: String::new(),
            ca: None,
            identity: None,
            call_timeout: Duration::from_secs(30),
            patience: Duration::from_secs(60),
        }
    }

    stubs!(
        jobs: JobsServiceClient,
        events: EventsServiceClient,
        sessions: SessionsServiceClient,
        licenses: LicensesServiceClient,
        license_servers: LicenseServersServiceClient,
        tokens: TokensServiceClient
    );

    /// What the stubs call, for services that have no method here.
    pub fn service(&self) -> Service {
        self.service.clone()
    }
}

/// How to connect.
#[derive(Clone)]
pub struct Builder {
    address: String,
    token: String,
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    call_timeout: Duration,
    patience: Duration,
}

impl Builder {
    /// What `serai tokens create` printed; empty = none, for the server's own Unix socket.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = token.into();
        self
    }

    /// The authorities that may sign the server's certificate, in PEM, in place of the system's.
    pub fn ca_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca = Some(pem.into());
        self
    }

    /// This client's own certificate and its key, in PEM, where the server knows it by its certificate.
    pub fn identity(mut self, certificate_pem: impl Into<Vec<u8>>, key_pem: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((certificate_pem.into(), key_pem.into()));
        self
    }

    /// After which a call with one answer ends that has no deadline of its own; 30 s unless it is set.
    pub fn call_timeout(mut self, limit: Duration) -> Self {
        self.call_timeout = limit;
        self
    }

    /// For how long watch and follow wait for a server that is away, from the moment that they notice; a minute unless it is set.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The client. Nothing is sent before the first call; must be called inside a tokio runtime.
    ///
    /// A token is refused on an `http://` address of another machine, where anybody on the way could read it.
    pub fn connect(self) -> Result<Client, ConnectError> {
        let address = Address::parse(&self.address).map_err(ConnectError)?;
        if !self.token.is_empty() && !address.is_private() {
            let words = "a token is not sent without TLS to another machine; use an https:// address";
            return Err(ConnectError(words.into()));
        }
        let authorization = self.authorization()?;
        let mut endpoint = Endpoint::from_shared(address.target.clone()).map_err(ConnectError::of)?;
        if address.tls {
            endpoint = endpoint.tls_config(self.tls()).map_err(ConnectError::of)?;
        } else if self.ca.is_some() || self.identity.is_some() {
            return Err(ConnectError("certificates are for https:// addresses only".into()));
        }
        let channel = endpoint
            .connect_timeout(Duration::from_secs(5))
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING_TIMEOUT)
            .connect_lazy();
        let credentials = Credentials { authorization, call_timeout: self.call_timeout };
        Ok(Client { service: InterceptedService::new(channel, credentials), patience: self.patience })
    }

    fn authorization(&self) -> Result<Option<MetadataValue<Ascii>>, ConnectError> {
        if self.token.is_empty() {
            return Ok(None);
        }
        let parsed = format!("Bearer {}", self.token).parse::<MetadataValue<Ascii>>();
        let mut value = parsed.map_err(|_| ConnectError("the token holds characters that no token has".into()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    fn tls(&self) -> ClientTlsConfig {
        let mut config = match &self.ca {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        config
    }
}

/// Why there is no client, in words for a person.
#[derive(Debug)]
pub struct ConnectError(String);

impl ConnectError {
    fn of(error: tonic::transport::Error) -> Self {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        Self(format!("{error}{}", cause.unwrap_or_default()))
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for ConnectError {}

/// Puts the token on each call, and a deadline on one that has one answer and no deadline of its own.
#[derive(Clone, Debug)]
pub struct Credentials {
    authorization: Option<MetadataValue<Ascii>>,
    call_timeout: Duration,
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.authorization {
            request.metadata_mut().insert("authorization", value.clone());
        }
        let streams = request.extensions().get::<GrpcMethod<'_>>().is_some_and(|call| STREAMS.contains(&call.method()));
        if !streams && !request.metadata().contains_key("grpc-timeout") {
            request.set_timeout(self.call_timeout);
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::{Client, STREAMS};

    /// A stream that were missing there would end after the time-out of a call.
    #[test]
    fn streams_are_all_that_the_stubs_have() {
        let stubs = [
            include_str!("api/serai/events/v1/serai.events.v1.tonic.rs"),
            include_str!("api/serai/jobs/v1/serai.jobs.v1.tonic.rs"),
            include_str!("api/serai/licenses/v1/serai.licenses.v1.tonic.rs"),
            include_str!("api/serai/sessions/v1/serai.sessions.v1.tonic.rs"),
            include_str!("api/serai/tokens/v1/serai.tokens.v1.tonic.rs"),
        ];
        let mut found = 0;
        for stub in stubs {
            for call in stub.split("GrpcMethod::new(").skip(1) {
                let name = call.split('"').nth(3).unwrap();
                let is_stream = !call.contains(".unary(req");
                assert_eq!(is_stream, STREAMS.contains(&name), "{name}");
                found += usize::from(is_stream);
            }
        }
        assert!(found >= STREAMS.len());
    }

    #[tokio::test]
    async fn a_token_is_not_sent_in_the_clear() {
        let error = Client::builder("http://serai.example.org").token("serai_1_secret").connect().unwrap_err();
        assert_eq!(error.to_string(), "a token is not sent without TLS to another machine; use an https:// address");
        assert!(Client::builder("http://localhost:1").token("serai_1_secret").connect().is_ok());
        assert!(Client::builder("http://localhost:1").ca_certificate("pem").connect().is_err());
        assert!(Client::builder("https://localhost:1").token("a\nb").connect().is_err());
    }

    #[tokio::test]
    async fn a_token_is_not_shown() {
        let client = Client::builder("https://localhost").token("serai_1_secret").connect().unwrap();
        assert!(!format!("{client:?}").contains("secret"));
    }
}
