package org.example.serai.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.google.protobuf.ByteString;
import io.grpc.StatusRuntimeException;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.UUID;
import org.example.serai.jobs.v1.FollowRequest;
import org.example.serai.jobs.v1.FollowResponse;
import org.example.serai.jobs.v1.GetRequest;
import org.example.serai.jobs.v1.JobState;
import org.example.serai.jobs.v1.OutputStream;
import org.example.serai.jobs.v1.SubmitRequest;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledIfEnvironmentVariable;

/** Against the live server that SERAI_ADDRESS names. */
@Timeout(90)
@EnabledIfEnvironmentVariable(named = "SERAI_ADDRESS", matches = ".+", disabledReason = "SERAI_ADDRESS names no server")
final class LiveTest {

    @Test
    @DisplayName("A job runs and its output is there afterwards; an unknown one has its reason")
    void job() {
        String ca = System.getenv().getOrDefault("SERAI_CA", "");
        Options options = Options.defaults().withToken(System.getenv("SERAI_TOKEN")).withCaFile(ca.isEmpty() ? null : Path.of(ca));
        try (Serai serai = Serai.connect(System.getenv("SERAI_ADDRESS"), options)) {
            SubmitRequest request = SubmitRequest.newBuilder()
                    .setOwner("tools")
                    .addAllCommand(List.of("sh", "-c", "echo \"$GREETING\""))
                    .putEnvironment("GREETING", "hello from Java")
                    .setSubmissionId(UUID.randomUUID().toString())
                    .build();
            String jobId = serai.jobs().submit(request).getJobId();
            assertEquals(jobId, serai.jobs().submit(request).getJobId());
            SubmitRequest other = request.toBuilder().clearEnvironment().build();
            StatusRuntimeException conflict = assertThrows(StatusRuntimeException.class, () -> serai.jobs().submit(other));
            assertEquals(Optional.of("JOB_CONFLICT"), Errors.reason(conflict));
            assertEquals(JobState.JOB_STATE_SUCCESS, serai.untilFinal(jobId).getState());
            ByteString text = ByteString.EMPTY;
            try (Answers<FollowResponse> pieces = serai.follow(FollowRequest.newBuilder().setJobId(jobId).build())) {
                while (pieces.hasNext()) {
                    FollowResponse piece = pieces.next();
                    if (piece.getStream() == OutputStream.OUTPUT_STREAM_STDOUT) {
                        text = text.concat(piece.getData());
                    }
                }
            }
            assertEquals("hello from Java\n", text.toStringUtf8());
            serai.stop(jobId); // over already: nothing happens
            GetRequest unknown = GetRequest.newBuilder().setJobId("no-such-job").build();
            StatusRuntimeException error = assertThrows(StatusRuntimeException.class, () -> serai.jobs().get(unknown));
            assertEquals(Optional.of("JOB_UNKNOWN"), Errors.reason(error));
        }
    }
}
