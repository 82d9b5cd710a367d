package org.example.serai.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.List;
import org.example.serai.jobs.v1.JobReport;
import org.example.serai.jobs.v1.JobState;
import org.example.serai.jobs.v1.ReplicaReport;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Test;

/** What is read without a connection: results, addresses, options. */
final class MessagesTest {

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
