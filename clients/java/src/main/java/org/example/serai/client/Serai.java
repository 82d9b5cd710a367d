package org.example.serai.client;

import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.ManagedChannel;
import io.grpc.netty.shaded.io.netty.channel.EventLoopGroup;
import java.time.Duration;
import java.util.NoSuchElementException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Function;
import org.example.serai.jobs.v1.FollowRequest;
import org.example.serai.jobs.v1.FollowResponse;
import org.example.serai.jobs.v1.JobReport;
import org.example.serai.jobs.v1.JobsServiceGrpc;
import org.example.serai.jobs.v1.TerminateRequest;
import org.example.serai.jobs.v1.WatchRequest;
import org.example.serai.jobs.v1.WatchResponse;

/**
 * One connection to a Serai, and what is done on it. It may be used by many threads.
 *
 * <p>Errors of calls are {@link io.grpc.StatusRuntimeException}s; {@link Errors} reads them.
 */
public final class Serai implements AutoCloseable {

    private final ManagedChannel connection;
    private final EventLoopGroup threads;
    private final Channel channel;
    private final Duration patience;

    private Serai(ManagedChannel connection, EventLoopGroup threads, Channel channel, Duration patience) {
        this.connection = connection;
        this.threads = threads;
        this.channel = channel;
        this.patience = patience;
    }

    /**
     * A connection to {@code https://host[:port]}, {@code http://host[:port]} without TLS, or {@code unix:/path} of a socket on this
     * machine. Nothing is sent before the first call.
     *
     * @throws IllegalArgumentException for an address or file that cannot be used, and for a token that would go to another machine
     *     without TLS, where anybody on the way could read it
     * @throws java.io.UncheckedIOException for certificates that cannot be used
     */
    public static Serai connect(String address, Options options) {
        Address to = Address.parse(address);
        if (options.token() != null && !to.isPrivate()) {
            throw new IllegalArgumentException("a token is not sent without TLS to another machine; use an https:// address");
        }
        EventLoopGroup threads = Channels.threadsFor(to);
        ManagedChannel connection = Channels.builder(to, options, threads).build();
        Channel channel = ClientInterceptors.intercept(connection, Channels.limited(options.callTimeout()));
        if (options.token() != null) {
            channel = ClientInterceptors.intercept(channel, Channels.bearer(options.token()));
        }
        return new Serai(connection, threads, channel, options.patience());
    }

    /** Every method of the jobs' service. */
    public JobsServiceGrpc.JobsServiceBlockingStub jobs() {
        return JobsServiceGrpc.newBlockingStub(channel);
    }

    /** For stubs of any kind and service, such as {@code JobsServiceGrpc.newFutureStub(serai.channel())}: with token and deadlines. */
    public Channel channel() {
        return channel;
    }

    /** Asks for a job to be stopped; returns when that is stored. One that is over already stays as it is. */
    public void stop(String jobId) {
        jobs().terminate(TerminateRequest.newBuilder().addJobIds(jobId).build());
    }

    /**
     * A job's report now and after each change, up to the one that is final. After a break the present report comes once more.
     */
    public Answers<JobReport> watch(String jobId) {
        WatchRequest request = WatchRequest.newBuilder().setJobId(jobId).build();
        AtomicBoolean over = new AtomicBoolean();
        Function<WatchResponse, JobReport> read = answer -> {
            over.set(Outcome.isFinal(answer.getJob().getState()));
            return answer.getJob();
        };
        return new Answers<>(patience, this::again, listening -> jobs().withInterceptors(listening).watch(request), read, over::get);
    }

    /** Waits until a job is over; its last report. */
    public JobReport untilFinal(String jobId) {
        JobReport last = null;
        try (Answers<JobReport> reports = watch(jobId)) {
            while (reports.hasNext()) {
                last = reports.next();
            }
        }
        if (last == null) {
            throw new NoSuchElementException("the server told nothing of job " + jobId);
        }
        return last;
    }

    /** What a job writes, from its beginning to its end. */
    public Answers<FollowResponse> follow(String jobId) {
        return follow(FollowRequest.newBuilder().setJobId(jobId).setFollow(true).build());
    }

    /**
     * What a job writes, byte for byte: from the beginning or the request's offsets, and with {@code follow} to the end of the output,
     * over broken connections and restarts of the server. No byte is lost and none comes twice; {@link Places.MissingOutput} is thrown if
     * the server leaves some out.
     *
     * <p>To go on in another process, keep a {@link Places} of what was handed out, and put its offsets into the request.
     */
    public Answers<FollowResponse> follow(FollowRequest request) {
        Places places = new Places(request.getOffsetsList(), request.getTailBytes() > 0);
        return new Answers<>(
                patience,
                this::again,
                listening -> jobs().withInterceptors(listening)
                        .follow(request.toBuilder().clearOffsets().addAllOffsets(places.offsets()).build()),
                places::newOf,
                () -> true);
    }

    /** Before a call is made again: a server that was away is looked for at once, and one that this side closed is not. */
    private boolean again() {
        connection.resetConnectBackoff();
        return !connection.isShutdown();
    }

    /** Ends the connection and every call that is still open on it. */
    @Override
    public void close() {
        connection.shutdownNow();
        if (threads != null) {
            threads.shutdownGracefully(0, 1, TimeUnit.SECONDS);
        }
    }
}
