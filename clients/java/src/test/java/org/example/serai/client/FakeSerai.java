package org.example.serai.client;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.rpc.ErrorInfo;
import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.ForwardingServerCall.SimpleForwardingServerCall;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.Status;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Deque;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedDeque;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.example.serai.jobs.v1.FollowOffset;
import org.example.serai.jobs.v1.FollowRequest;
import org.example.serai.jobs.v1.FollowResponse;
import org.example.serai.jobs.v1.GetRequest;
import org.example.serai.jobs.v1.GetResponse;
import org.example.serai.jobs.v1.JobReport;
import org.example.serai.jobs.v1.JobState;
import org.example.serai.jobs.v1.JobsServiceGrpc;
import org.example.serai.jobs.v1.OutputStream;
import org.example.serai.jobs.v1.SubmitRequest;
import org.example.serai.jobs.v1.SubmitResponse;
import org.example.serai.jobs.v1.TerminateRequest;
import org.example.serai.jobs.v1.TerminateResponse;
import org.example.serai.jobs.v1.WatchRequest;
import org.example.serai.jobs.v1.WatchResponse;

/** A Serai with one token and jobs whose life a test decides, over real connections of loopback. */
final class FakeSerai extends JobsServiceGrpc.JobsServiceImplBase implements AutoCloseable {

    static final String TOKEN = "serai_fake_token";

    private static final int PIECE_BYTES = 1_000;
    private static final Context.Key<Boolean> ADMITTED = Context.key("admitted");
    private static final Context.Key<ServerCall<?, ?>> CALL = Context.key("call");
    private static final Metadata.Key<String> AUTHORIZATION = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

    /** Ids of those that it knows. */
    final Set<String> jobs = ConcurrentHashMap.newKeySet();
    /** Tokens as they came, one for each call. */
    final List<String> tokens = Collections.synchronizedList(new ArrayList<>());
    /** Offsets of each follow, as they came. */
    final List<List<FollowOffset>> follows = Collections.synchronizedList(new ArrayList<>());
    /** A stream breaks after so many more answers, with this status; then the next break counts. */
    final Deque<Break> breaks = new ConcurrentLinkedDeque<>();
    /** What each job's rank 0 writes to stdout, all of it at once. */
    volatile ByteString output = ByteString.EMPTY;
    /** Of every job, one after the other; a job whose last state is not final stays there, and a watch of it goes on. */
    volatile List<JobState> states = List.of(JobState.JOB_STATE_IN_QUEUE, JobState.JOB_STATE_RUNNING, JobState.JOB_STATE_SUCCESS);
    /** Streams are open for so many milliseconds, tell nothing, and break; those after the last number tell what there is. */
    final Deque<Long> quietMs = new ConcurrentLinkedDeque<>();
    /** Bytes of output that are left out before each stream but the first. */
    volatile int leftOut;
    /** true: calls with one answer get none. */
    volatile boolean silent;
    /** Counted down when a caller ended a watch. */
    final CountDownLatch left = new CountDownLatch(1);

    private Server server;

    /** @param status null = the whole server is stopped and started anew; OK = the stream ends as if everything was told */
    record Break(int after, Status status) {}

    FakeSerai() throws IOException {
        start(0);
    }

    private void start(int port) throws IOException {
        server = NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", port))
                .addService(this)
                .intercept(new Door())
                .build()
                .start();
    }

    String address() {
        return "http://127.0.0.1:" + server.getPort();
    }

    /** As a machine that loses power and comes back. */
    synchronized void restart() {
        int port = server.getPort();
        try {
            server.shutdownNow().awaitTermination(10, TimeUnit.SECONDS);
            start(port);
        } catch (IOException | InterruptedException wrong) {
            throw new IllegalStateException(wrong);
        }
    }

    @Override
    public synchronized void close() {
        server.shutdownNow();
    }

    @Override
    public void submit(SubmitRequest request, StreamObserver<SubmitResponse> answer) {
        if (silent || refused(answer)) {
            return;
        }
        jobs.add(request.getSubmissionId());
        answer.onNext(SubmitResponse.newBuilder().setJobId(request.getSubmissionId()).build());
        answer.onCompleted();
    }

    @Override
    public void get(GetRequest request, StreamObserver<GetResponse> answer) {
        if (!refused(answer) && known(request.getJobId(), answer)) {
            answer.onNext(GetResponse.newBuilder().setJob(JobReport.newBuilder().setId(request.getJobId())).build());
            answer.onCompleted();
        }
    }

    @Override
    public void terminate(TerminateRequest request, StreamObserver<TerminateResponse> answer) {
        if (!refused(answer)) {
            states = List.of(JobState.JOB_STATE_SUCCESS);
            answer.onNext(TerminateResponse.getDefaultInstance());
            answer.onCompleted();
        }
    }

    @Override
    public void watch(WatchRequest request, StreamObserver<WatchResponse> answer) {
        if (refused(answer) || !known(request.getJobId(), answer)) {
            return;
        }
        ((ServerCallStreamObserver<?>) answer).setOnCancelHandler(left::countDown);
        if (wasQuiet(answer)) {
            return;
        }
        Deque<JobState> toTell = new ArrayDeque<>(states);
        while (!toTell.isEmpty()) {
            if (broken(answer)) {
                return;
            }
            JobReport report = JobReport.newBuilder().setId(request.getJobId()).setState(toTell.poll()).build();
            answer.onNext(WatchResponse.newBuilder().setJob(report).build());
        }
        if (Outcome.isFinal(states.get(states.size() - 1))) {
            answer.onCompleted();
        }
    }

    @Override
    public void follow(FollowRequest request, StreamObserver<FollowResponse> answer) {
        if (refused(answer) || !known(request.getJobId(), answer)) {
            return;
        }
        follows.add(request.getOffsetsList());
        if (wasQuiet(answer)) {
            return;
        }
        // Some bytes that were read come again, as from a server that reads in blocks.
        long at = request.getOffsetsList().stream().mapToLong(offset -> Math.max(offset.getOffset() - 7, 0)).findFirst().orElse(0);
        at += follows.size() > 1 ? leftOut : 0;
        for (; at < output.size(); at += PIECE_BYTES) {
            if (broken(answer)) {
                return;
            }
            ByteString data = output.substring((int) at, (int) Math.min(at + PIECE_BYTES, output.size()));
            answer.onNext(FollowResponse.newBuilder().setStream(OutputStream.OUTPUT_STREAM_STDOUT).setOffset(at).setData(data).build());
        }
        answer.onCompleted();
    }

    private boolean known(String jobId, StreamObserver<?> answer) {
        if (jobs.contains(jobId)) {
            return true;
        }
        answer.onError(error(Status.Code.NOT_FOUND, "JOB_UNKNOWN", "job " + jobId + "\nis not known"));
        return false;
    }

    private static boolean refused(StreamObserver<?> answer) {
        if (ADMITTED.get()) {
            return false;
        }
        answer.onError(error(Status.Code.UNAUTHENTICATED, "UNAUTHENTICATED", "this token is not known"));
        return true;
    }

    static io.grpc.StatusRuntimeException error(Status.Code code, String reason, String words) {
        ErrorInfo info = ErrorInfo.newBuilder().setReason(reason).setDomain("serai").build();
        return StatusProto.toStatusRuntimeException(
                com.google.rpc.Status.newBuilder().setCode(code.value()).setMessage(words).addDetails(Any.pack(info)).build());
    }

    /** true = nothing was told and the stream is broken now. */
    private boolean wasQuiet(StreamObserver<?> answer) {
        Long forMs = quietMs.poll();
        if (forMs == null) {
            return false;
        }
        CALL.get().sendHeaders(new Metadata());
        try {
            Thread.sleep(forMs);
        } catch (InterruptedException stopped) {
            Thread.currentThread().interrupt();
        }
        answer.onError(Status.UNAVAILABLE.asRuntimeException());
        return true;
    }

    /** Counts one answer; true = the stream is broken now. */
    private boolean broken(StreamObserver<?> answer) {
        Break first = breaks.poll();
        if (first == null) {
            return false;
        }
        if (first.after() > 0) {
            breaks.addFirst(new Break(first.after() - 1, first.status()));
            return false;
        }
        if (first.status() == null) {
            new Thread(this::restart).start();
        } else if (first.status().isOk()) {
            answer.onCompleted();
        } else {
            answer.onError(first.status().asRuntimeException());
        }
        return true;
    }

    private final class Door implements ServerInterceptor {
        @Override
        public <Q, A> ServerCall.Listener<Q> interceptCall(ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
            String token = headers.get(AUTHORIZATION);
            tokens.add(String.valueOf(token));
            boolean admitted = ("Bearer " + TOKEN).equals(token);
            ServerCall<Q, A> own = new SimpleForwardingServerCall<>(call) {
                private boolean open;

                @Override
                public void sendHeaders(Metadata told) {
                    if (!open) {
                        open = true;
                        super.sendHeaders(told);
                    }
                }
            };
            return Contexts.interceptCall(Context.current().withValue(ADMITTED, admitted).withValue(CALL, own), own, headers, next);
        }
    }
}
