package org.example.serai.client;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.netty.shaded.io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.shaded.io.netty.channel.EventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.MultiThreadIoEventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.epoll.Epoll;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollDomainSocketChannel;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollIoHandler;
import io.grpc.netty.shaded.io.netty.channel.unix.DomainSocketAddress;
import io.grpc.netty.shaded.io.netty.handler.ssl.SslContextBuilder;
import java.io.File;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import javax.net.ssl.SSLException;

/** Makes channels: the way to the server, and what goes with each call. */
final class Channels {

    /** What the server sends at most. */
    private static final int RECEIVE_LIMIT_BYTES = 64 * 1024 * 1024;

    /** What the server takes from tools at most. */
    private static final int SEND_LIMIT_BYTES = 16 * 1024 * 1024;

    /** gRPC servers refuse to be asked more than every five minutes whether they are still there. */
    private static final Duration KEEP_ALIVE = Duration.ofMinutes(6);

    private static final Duration KEEP_ALIVE_TIMEOUT = Duration.ofSeconds(20);

    private static final Metadata.Key<String> AUTHORIZATION = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

    private Channels() {}

    /** For a Unix socket, which needs threads of its own that live as long as the channel; null for other addresses. */
    static EventLoopGroup threadsFor(Address to) {
        if (to.socket() == null) {
            return null;
        }
        if (!Epoll.isAvailable()) {
            throw new IllegalArgumentException("unix: addresses are for Linux; use the server's http:// or https:// address");
        }
        return new MultiThreadIoEventLoopGroup(1, EpollIoHandler.newFactory());
    }

    static NettyChannelBuilder builder(Address to, Options options, EventLoopGroup threads) {
        NettyChannelBuilder builder = to.socket() == null
                ? NettyChannelBuilder.forAddress(to.host(), to.port())
                : NettyChannelBuilder.forAddress(new DomainSocketAddress(to.socket()))
                        .channelType(EpollDomainSocketChannel.class, DomainSocketAddress.class)
                        .eventLoopGroup(threads)
                        .overrideAuthority(to.host());
        if (to.tls()) {
            secure(builder, options);
        } else if (options.caFile() != null || options.certificateFile() != null) {
            throw new IllegalArgumentException("certificates are for https:// addresses only");
        } else {
            builder.usePlaintext();
        }
        return builder.maxInboundMessageSize(RECEIVE_LIMIT_BYTES)
                .keepAliveTime(KEEP_ALIVE.toSeconds(), TimeUnit.SECONDS)
                .keepAliveTimeout(KEEP_ALIVE_TIMEOUT.toSeconds(), TimeUnit.SECONDS);
    }

    private static void secure(NettyChannelBuilder builder, Options options) {
        try {
            SslContextBuilder tls = GrpcSslContexts.forClient();
            if (options.caFile() != null) {
                tls.trustManager(readable(options.caFile()));
            }
            if (options.certificateFile() != null) {
                tls.keyManager(readable(options.certificateFile()), readable(options.keyFile()));
            }
            builder.sslContext(tls.build());
        } catch (SSLException wrong) {
            throw new UncheckedIOException("the certificates cannot be used: " + wrong.getMessage(), wrong);
        }
    }

    private static File readable(Path path) {
        File file = path.toFile();
        if (!file.canRead()) {
            throw new IllegalArgumentException(path + " cannot be read; it should hold certificates or a key in PEM");
        }
        return file;
    }

    /** Puts a token on each call. */
    static ClientInterceptor bearer(Supplier<String> token) {
        return new ClientInterceptor() {
            @Override
            public <Q, A> ClientCall<Q, A> interceptCall(MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
                return new SimpleForwardingClientCall<>(next.newCall(method, options)) {
                    @Override
                    public void start(Listener<A> listener, Metadata headers) {
                        headers.put(AUTHORIZATION, "Bearer " + token.get());
                        super.start(listener, headers);
                    }
                };
            }
        };
    }

    /** Sets limits: of what is sent, and a deadline for calls with one answer that have none. Streams last as long as what they tell of. */
    static ClientInterceptor limited(Duration timeout) {
        return new ClientInterceptor() {
            @Override
            public <Q, A> ClientCall<Q, A> interceptCall(MethodDescriptor<Q, A> method, CallOptions given, Channel next) {
                CallOptions options = given.getMaxOutboundMessageSize() == null ? given.withMaxOutboundMessageSize(SEND_LIMIT_BYTES) : given;
                boolean once = method.getType() == MethodDescriptor.MethodType.UNARY;
                boolean unlimited = options.getDeadline() == null;
                return next.newCall(
                        method, once && unlimited ? options.withDeadlineAfter(timeout.toMillis(), TimeUnit.MILLISECONDS) : options);
            }
        };
    }
}
