package serai

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/keepalive"

	eventsv1 "example.org/serai/clients/go/api/serai/events/v1"
	jobsv1 "example.org/serai/clients/go/api/serai/jobs/v1"
	licensesv1 "example.org/serai/clients/go/api/serai/licenses/v1"
	sessionsv1 "example.org/serai/clients/go/api/serai/sessions/v1"
	tokensv1 "example.org/serai/clients/go/api/serai/tokens/v1"
)

const (
	receiveLimitBytes = 64 * 1024 * 1024 // what the server sends at most
	sendLimitBytes    = 16 * 1024 * 1024 // what it takes from tools at most
	firstWait         = 200 * time.Millisecond
	longestWait       = 5 * time.Second
)

// Options say how to connect. The zero value asks for TLS as the system trusts it, and carries no token.
type Options struct {
	// Token is what `serai tokens create` printed; empty = none, for the server's own Unix socket.
	Token string
	// CAFile is a PEM file of the authorities that may sign the server's certificate; empty = the system's.
	CAFile string
	// CertificateFile and KeyFile are this client's own, in PEM, where the server knows it by its certificate; empty = none.
	CertificateFile, KeyFile string
	// CallTimeout ends a call with one answer whose context has no deadline; 0 = 30 s.
	CallTimeout time.Duration
	// Patience is for how long Watch and Follow wait for a server that is away, from the moment that they notice; 0 = a minute.
	Patience time.Duration
	// Dial is added to the options of the connection, for what is not foreseen here.
	Dial []grpc.DialOption
}

// Client is one connection to Serai with all its services. It may be used by many goroutines.
type Client struct {
	Jobs           jobsv1.JobsServiceClient
	Events         eventsv1.EventsServiceClient
	Sessions       sessionsv1.SessionsServiceClient
	Licenses       licensesv1.LicensesServiceClient
	LicenseServers licensesv1.LicenseServersServiceClient
	Tokens         tokensv1.TokensServiceClient

	connection *grpc.ClientConn
	patience   time.Duration
}

// Connect makes a client for an address: https://host[:port], http://host[:port] without TLS, or unix:/path/of/socket.
//
// Nothing is sent before the first call. A token is refused on an http:// address of another machine, where anybody on the way could
// read it.
func Connect(address string, options Options) (*Client, error) {
	to, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	credentials, err := to.credentials(options)
	if err != nil {
		return nil, err
	}
	waits := backoff.Config{BaseDelay: firstWait, Multiplier: 1.6, Jitter: 0.2, MaxDelay: longestWait}
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(credentials),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(receiveLimitBytes), grpc.MaxCallSendMsgSize(sendLimitBytes)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: waits, MinConnectTimeout: longestWait}),
		// A connection that is dead without a word is noticed. Servers refuse to be asked more than every five minutes.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 6 * time.Minute, Timeout: 20 * time.Second}),
		grpc.WithChainUnaryInterceptor(withDeadline(orElse(options.CallTimeout, 30*time.Second))),
	}
	if options.Token != "" {
		if !to.private() {
			return nil, errors.New("a token is not sent without TLS to another machine; use an https:// address")
		}
		dial = append(dial, grpc.WithPerRPCCredentials(bearer(options.Token)))
	}
	connection, err := grpc.NewClient(to.target, append(dial, options.Dial...)...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	return &Client{
		Jobs:           jobsv1.NewJobsServiceClient(connection),
		Events:         eventsv1.NewEventsServiceClient(connection),
		Sessions:       sessionsv1.NewSessionsServiceClient(connection),
		Licenses:       licensesv1.NewLicensesServiceClient(connection),
		LicenseServers: licensesv1.NewLicenseServersServiceClient(connection),
		Tokens:         tokensv1.NewTokensServiceClient(connection),
		connection:     connection,
		patience:       orElse(options.Patience, time.Minute),
	}, nil
}

// Connection is what the stubs use: for services that have no field here, such as health and reflection.
func (c *Client) Connection() *grpc.ClientConn { return c.connection }

// Close ends the connection, and with it every call in flight.
func (c *Client) Close() error { return c.connection.Close() }

func (c *Client) closed() bool { return c.connection.GetState() == connectivity.Shutdown }

func withDeadline(limit time.Duration) grpc.UnaryClientInterceptor {
	return func(
		ctx context.Context, method string, request, answer any, connection *grpc.ClientConn, call grpc.UnaryInvoker, options ...grpc.CallOption,
	) error {
		if _, has := ctx.Deadline(); !has {
			limited, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			ctx = limited
		}
		return call(ctx, method, request, answer, connection, options...)
	}
}

func orElse(given, standard time.Duration) time.Duration {
	if given == 0 {
		return standard
	}
	return given
}

// bearer puts the token on each call.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity: Connect has looked already, and knows of loopback and Unix sockets, which grpc takes for insecure.
func (b bearer) RequireTransportSecurity() bool { return false }
