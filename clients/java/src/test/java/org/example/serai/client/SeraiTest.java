package org.example.serai.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.example.serai.client.FakeSerai.Break;
import org.example.serai.jobs.v1.FollowRequest;
import org.example.serai.jobs.v1.FollowResponse;
import org.example.serai.jobs.v1.GetRequest;
import org.example.serai.jobs.v1.JobReport;
import org.example.serai.jobs.v1.JobState;
import org.example.serai.jobs.v1.SubmitRequest;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** The client over real connections to a server of the test's own. */
@Timeout(60)
final class SeraiTest {

    private static final String JOB = "one";
    private static final SubmitRequest REQUEST =
            SubmitRequest.newBuilder().setOwner("user").addCommand("true").setSubmissionId(JOB).build();
    private static final Options OPTIONS = Options.defaults().withToken(FakeSerai.TOKEN);

    private FakeSerai fake;
    private Serai serai;

    @BeforeEach
    void connect() throws IOException {
        fake = new FakeSerai();
        fake.jobs.add(JOB);
        serai = Serai.connect(fake.address(), OPTIONS);
    }

    @AfterEach
    void close() {
        serai.close();
        fake.close();
    }

    @Test
    @DisplayName("The token goes with each call, and is asked for each time")
    void token() {
        List<String> given = new ArrayList<>(List.of(FakeSerai.TOKEN, "serai_renewed"));
        try (Serai renewing = Serai.connect(fake.address(), OPTIONS.withTokens(() -> given.remove(0)))) {
            renewing.jobs().submit(REQUEST);
            StatusRuntimeException error = assertThrows(StatusRuntimeException.class, () -> renewing.untilFinal(JOB));
            assertEquals("UNAUTHENTICATED: this token is not known", Errors.explain(error));
        }
        assertEquals(List.of("Bearer " + FakeSerai.TOKEN, "Bearer serai_renewed"), fake.tokens);
    }

    @Test
    @DisplayName("A call that gets no answer ends after its time")
    void deadline() {
        fake.silent = true;
        try (Serai hasty = Serai.connect(fake.address(), OPTIONS.withCallTimeout(Duration.ofMillis(200)))) {
            assertEquals(Status.Code.DEADLINE_EXCEEDED, codeOf(() -> hasty.jobs().submit(REQUEST)));
        }
    }

    @Test
    @DisplayName("A program is submitted; an address where nobody answers is an error at once")
    void submit() {
        fake.jobs.clear();
        assertEquals(JOB, serai.jobs().submit(REQUEST).getJobId());
        assertEquals(Set.of(JOB), fake.jobs);
        try (Serai nobody = Serai.connect("http://127.0.0.1:9", Options.defaults())) {
            assertEquals(Status.Code.UNAVAILABLE, codeOf(() -> nobody.jobs().submit(REQUEST)));
        }
    }

    @Test
    @DisplayName("A watch goes on until the job is final, over broken streams")
    void watch() {
        fake.breaks.add(new Break(1, Status.UNAVAILABLE));
        fake.breaks.add(new Break(2, Status.INTERNAL.withDescription("RST_STREAM")));
        fake.breaks.add(new Break(0, Status.OK));
        List<JobState> states = new ArrayList<>();
        try (Answers<JobReport> reports = serai.watch("one")) {
            reports.forEachRemaining(report -> states.add(report.getState()));
        }
        JobState queued = JobState.JOB_STATE_IN_QUEUE;
        JobState running = JobState.JOB_STATE_RUNNING;
        assertEquals(List.of(queued, queued, running, queued, running, JobState.JOB_STATE_SUCCESS), states);
        assertEquals(JobState.JOB_STATE_SUCCESS, serai.untilFinal("one").getState());
    }

    @Test
    @DisplayName("Output comes whole over broken streams and a restart: not a byte is lost or comes twice")
    void follow() {
        byte[] written = new byte[20_500];
        new Random(1).nextBytes(written);
        fake.output = ByteString.copyFrom(written);
        fake.breaks.add(new Break(3, Status.UNAVAILABLE));
        fake.breaks.add(new Break(0, Status.UNKNOWN));
        fake.breaks.add(new Break(6, null));
        ByteString read = ByteString.EMPTY;
        try (Answers<FollowResponse> pieces = serai.follow("one")) {
            while (pieces.hasNext()) {
                FollowResponse piece = pieces.next();
                assertEquals(read.size(), piece.getOffset());
                read = read.concat(piece.getData());
            }
        }
        assertEquals(fake.output, read);
        assertTrue(fake.breaks.isEmpty());
        assertTrue(fake.follows.size() >= 4);
    }

    @Test
    @DisplayName("A quiet stream is no absence: it is opened again after its break, and after the next one")
    void quiet() {
        fake.output = ByteString.copyFromUtf8("at last");
        try (Serai hasty = Serai.connect(fake.address(), OPTIONS.withPatience(Duration.ofMillis(100)))) {
            fake.quietMs.addAll(List.of(300L, 300L));
            assertEquals(JobState.JOB_STATE_SUCCESS, hasty.untilFinal("one").getState());
            fake.quietMs.addAll(List.of(300L, 300L));
            try (Answers<FollowResponse> pieces = hasty.follow("one")) {
                assertEquals(fake.output, pieces.next().getData());
            }
            assertTrue(fake.quietMs.isEmpty());
        }
    }

    @Test
    @DisplayName("Output that the server leaves out is an error")
    void leftOut() {
        fake.output = ByteString.copyFrom(new byte[5_000]);
        fake.leftOut = 17;
        fake.breaks.add(new Break(3, Status.UNAVAILABLE));
        try (Answers<FollowResponse> pieces = serai.follow("one")) {
            StatusRuntimeException error = assertThrows(StatusRuntimeException.class, () -> pieces.forEachRemaining(piece -> {}));
            assertEquals("DATA_LOSS: bytes 3000 to 3010 of the output of rank 0 did not come", Errors.explain(error));
            assertEquals(2, fake.follows.size());
        }
    }

    @Test
    @DisplayName("Another reader goes on where one stopped")
    void places() {
        fake.output = ByteString.copyFromUtf8("what was read, and the rest");
        Places places = new Places();
        places.newOf(FollowResponse.newBuilder().setStreamValue(1).setData(fake.output.substring(0, 15)).build());
        FollowRequest rest = FollowRequest.newBuilder().setJobId("one").addAllOffsets(places.offsets()).build();
        try (Answers<FollowResponse> pieces = serai.follow(rest)) {
            assertEquals("and the rest", pieces.next().getData().toStringUtf8());
            assertFalse(pieces.hasNext());
        }
    }

    @Test
    @DisplayName("What the server says is final: it is thrown with its reason, and not asked again")
    void said() {
        StatusRuntimeException error = assertThrows(StatusRuntimeException.class, () -> serai.follow("nobody").hasNext());
        assertEquals("NOT_FOUND: job nobody is not known", Errors.explain(error));
        assertEquals(Optional.of("JOB_UNKNOWN"), Errors.reason(error));
        fake.breaks.add(new Break(0, Status.fromThrowable(FakeSerai.error(Status.Code.NOT_FOUND, "JOB_UNKNOWN", "gone"))));
        assertEquals(Status.Code.NOT_FOUND, codeOf(() -> serai.untilFinal("one")));
        assertEquals(2, fake.tokens.size());
        assertEquals(Optional.empty(), Errors.reason(Status.UNAVAILABLE.asRuntimeException()));
        assertEquals("no", Errors.explain(new IllegalStateException("no")));
    }

    @Test
    @DisplayName("A server that is away for longer than the patience is given up")
    void patience() {
        String address = fake.address();
        fake.close();
        try (Serai hasty = Serai.connect(address, OPTIONS.withPatience(Duration.ofMillis(300)))) {
            assertEquals(Status.Code.UNAVAILABLE, codeOf(() -> hasty.untilFinal("one")));
        }
    }

    @Test
    @DisplayName("Closing answers from another thread ends the loop that reads them, and the call at the server")
    void closing() throws InterruptedException, ExecutionException, java.util.concurrent.TimeoutException {
        fake.states = List.of(JobState.JOB_STATE_RUNNING);
        Answers<JobReport> reports = serai.watch("one");
        assertNotNull(reports.next());
        CompletableFuture<Boolean> more = CompletableFuture.supplyAsync(reports::hasNext);
        reports.close();
        assertFalse(more.get(30, TimeUnit.SECONDS));
        assertTrue(fake.left.await(30, TimeUnit.SECONDS));
    }

    @Test
    @DisplayName("Closing the client ends a watch, which does not look for the server again")
    void closingAll() {
        fake.states = List.of(JobState.JOB_STATE_RUNNING);
        Answers<JobReport> reports = serai.watch("one");
        assertNotNull(reports.next());
        serai.close();
        assertEquals(Status.Code.UNAVAILABLE, codeOf(reports::hasNext));
        assertEquals(1, fake.tokens.size());
    }

    @Test
    @DisplayName("Interrupting the thread that reads ends it with CANCELLED, in a call and in the wait before the next")
    void interrupting() throws InterruptedException {
        fake.states = List.of(JobState.JOB_STATE_RUNNING);
        for (boolean away : List.of(false, true)) {
            Answers<JobReport> reports = serai.watch("one");
            assertNotNull(reports.next());
            if (away) {
                fake.close();
            }
            CompletableFuture<Status.Code> end = new CompletableFuture<>();
            Thread reader = new Thread(() -> end.complete(codeOf(reports::hasNext)));
            reader.start();
            reader.interrupt();
            assertEquals(Status.Code.CANCELLED, end.join());
            reader.join();
        }
    }

    @Test
    @DisplayName("Stopping asks for the end, which the watch then tells")
    void stop() {
        fake.states = List.of(JobState.JOB_STATE_RUNNING);
        serai.stop("one");
        assertEquals(JobState.JOB_STATE_SUCCESS, serai.untilFinal("one").getState());
        assertEquals("one", serai.jobs().get(GetRequest.newBuilder().setJobId("one").build()).getJob().getId());
    }

    private static Status.Code codeOf(Runnable call) {
        return assertThrows(StatusRuntimeException.class, call::run).getStatus().getCode();
    }
}
