package org.example.serai.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.example.serai.core.v1.ProductReference;
import org.example.serai.jobs.v1.ApplicationInvocation;
import org.example.serai.jobs.v1.Job;
import org.example.serai.jobs.v1.JobReport;
import org.example.serai.jobs.v1.JobState;
import org.example.serai.jobs.v1.ReplicaReport;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Test;

/** What is made and read without a connection: jobs, results, addresses. */
final class MessagesTest {

    private static final ProductReference PRODUCT = ProductReference.newBuilder().setId("m").setCategory("c").setProvider("p").build();

    @Test
    @DisplayName("A job of the program's words, under an id of its own")
    void minimalJob() {
        List<String> command = List.of("acme-batch", "--debug", "true", "two words");
        Job job = new JobSpec("alice", PRODUCT, command).job();
        assertTrue(job.getId().matches("[A-Za-z0-9_-]{1,64}"));
        assertNotEquals(job.getId(), new JobSpec("alice", PRODUCT, command).job().getId());
        ApplicationInvocation invocation = job.getStatus().getResolvedApplication().getInvocation();
        assertEquals(command, invocation.getInvocationList().stream().map(part -> part.getWord().getWord()).toList());
        assertFalse(invocation.getAllowMultiNode());
        assertFalse(job.getOwner().hasProject());
        assertFalse(job.getSpecification().hasTimeAllocation());
    }

    @Test
    @DisplayName("A job of all that can be said")
    void wholeJob() {
        Job job = new JobSpec("alice", PRODUCT, List.of("true"))
                .id("mine")
                .project("physics")
                .image("acme/batch:1.0.0")
                .name("nightly")
                .replicas(3)
                .timeLimit(Duration.ofSeconds(5_024).plusNanos(1))
                .environment(Map.of("MODE", "fast"))
                .job();
        ApplicationInvocation invocation = job.getStatus().getResolvedApplication().getInvocation();
        assertEquals(List.of("mine", "physics", "nightly"), List.of(job.getId(), job.getOwner().getProject(), job.getSpecification().getName()));
        assertEquals("acme/batch:1.0.0", invocation.getTool().getTool().getDescription().getImage());
        assertEquals(3, job.getSpecification().getReplicas());
        assertTrue(invocation.getAllowMultiNode());
        assertEquals("fast", invocation.getEnvironmentOrThrow("MODE").getWord().getWord());
        var limit = job.getSpecification().getTimeAllocation();
        assertEquals(List.of(1, 23, 45), List.of(limit.getHours(), limit.getMinutes(), limit.getSeconds()));
    }

    @Test
    @DisplayName("The exit code is that of the first replica that failed, as a shell would tell it")
    void exitCode() {
        assertEquals(0, codeOf(JobState.JOB_STATE_SUCCESS, exited(0), exited(0)));
        assertEquals(7, codeOf(JobState.JOB_STATE_SUCCESS, exited(0), exited(7), exited(8)));
        assertEquals(143, codeOf(JobState.JOB_STATE_SUCCESS, ReplicaReport.newBuilder().setSignal(15)));
        assertEquals(1, codeOf(JobState.JOB_STATE_EXPIRED, exited(0)));
        assertEquals(1, codeOf(JobState.JOB_STATE_FAILURE));
    }

    private static ReplicaReport.Builder exited(int code) {
        return ReplicaReport.newBuilder().setExitCode(code);
    }

    private static int codeOf(JobState state, ReplicaReport.Builder... replicas) {
        JobReport.Builder report = JobReport.newBuilder().setState(state);
        List.of(replicas).forEach(report::addReplicaReports);
        return Outcome.exitCode(report.build());
    }

    @Test
    @DisplayName("States have the names that people write")
    void states() {
        assertEquals("IN_QUEUE", Outcome.name(JobState.JOB_STATE_IN_QUEUE));
        assertTrue(Outcome.isFinal(JobState.JOB_STATE_EXPIRED));
        assertFalse(Outcome.isFinal(JobState.JOB_STATE_SUSPENDED));
    }

    @Test
    @DisplayName("An address that is none is refused with what is expected")
    void addresses() {
        assertEquals(new Address("serai.example.org", 443, null, true), Address.parse("https://serai.example.org"));
        assertEquals(new Address("127.0.0.1", 8090, null, false), Address.parse("http://127.0.0.1:8090/"));
        assertEquals(new Address("localhost", 0, "/run/serai.sock", false), Address.parse("unix:/run/serai.sock"));
        for (String wrong : List.of("localhost:8090", "grpc://there", "https://", "unix:", "", "http://a b", "https://there/path")) {
            IllegalArgumentException error = assertThrows(IllegalArgumentException.class, () -> Address.parse(wrong));
            assertTrue(error.getMessage().contains("expected https://host"));
        }
    }

    @Test
    @DisplayName("A token is not sent to another machine without TLS, and never shown")
    void tokens() {
        Options options = Options.defaults().withToken("serai_secret");
        assertThrows(IllegalArgumentException.class, () -> Serai.connect("http://serai.example.org", options));
        for (String here : List.of("http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://serai.example.org")) {
            Serai.connect(here, options).close();
        }
        assertFalse(options.toString().contains("secret"));
        assertEquals(null, Options.defaults().withToken("").token());
    }

    @Test
    @DisplayName("Certificates that cannot be used are errors at once, which name the file")
    void certificates() {
        Options missing = Options.defaults().withCaFile(Path.of("no/such.pem"));
        Exception error = assertThrows(IllegalArgumentException.class, () -> Serai.connect("https://serai.example.org", missing));
        assertTrue(error.getMessage().startsWith(Path.of("no/such.pem") + " cannot be read"));
        assertThrows(IllegalArgumentException.class, () -> Serai.connect("http://127.0.0.1:1", missing));
        Options wrong = Options.defaults().withCaFile(Path.of("pom.xml"));
        assertThrows(RuntimeException.class, () -> Serai.connect("https://serai.example.org", wrong));
    }
}
