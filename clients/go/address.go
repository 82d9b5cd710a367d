package serai

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

type address struct {
	target string // as grpc wants it
	tls    bool
	local  bool // a Unix socket or loopback
}

func parseAddress(text string) (address, error) {
	if path, isSocket := strings.CutPrefix(text, "unix:"); isSocket {
		return address{target: "unix:" + path, local: true}, nil
	}
	parsed, err := url.Parse(text)
	if err != nil || parsed.Hostname() == "" || strings.Trim(parsed.Path, "/") != "" {
		return address{}, badAddress(text)
	}
	ports := map[string]string{"https": "443", "http": "80"}
	standard, known := ports[parsed.Scheme]
	if !known {
		return address{}, badAddress(text)
	}
	port := parsed.Port()
	if port == "" {
		port = standard
	}
	host := parsed.Hostname()
	ip := net.ParseIP(host)
	return address{
		target: "dns:///" + net.JoinHostPort(host, port),
		tls:    parsed.Scheme == "https",
		local:  host == "localhost" || (ip != nil && ip.IsLoopback()),
	}, nil
}

func badAddress(text string) error {
	return fmt.Errorf("%q is no address of a server: expected https://host[:port], http://host[:port] or unix:/path", text)
}

// private: nobody else reads what is sent there.
func (a address) private() bool { return a.tls || a.local }

func (a address) credentials(options Options) (credentials.TransportCredentials, error) {
	if !a.tls {
		if options.CAFile != "" || options.CertificateFile != "" {
			return nil, errors.New("certificates are for https:// addresses only")
		}
		return insecure.NewCredentials(), nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if options.CAFile != "" {
		pem, err := os.ReadFile(options.CAFile)
		if err != nil {
			return nil, fmt.Errorf("the authorities' certificates cannot be read: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", options.CAFile)
		}
	}
	if options.CertificateFile != "" {
		pair, err := tls.LoadX509KeyPair(options.CertificateFile, options.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("this client's certificate cannot be used: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(config), nil
}
