import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.example.serai.client.Answers;
import org.example.serai.client.Errors;
import org.example.serai.client.Options;
import org.example.serai.client.Outcome;
import org.example.serai.client.Serai;
import org.example.serai.jobs.v1.FollowResponse;
import org.example.serai.jobs.v1.JobReport;
import org.example.serai.jobs.v1.JobState;
import org.example.serai.jobs.v1.SubmitRequest;

/**
 * Runs a program as a job of Serai: submits it, tells its states, writes what it writes, and ends with its exit code.
 *
 * <pre>SERAI_ADDRESS=https://serai.example.org SERAI_TOKEN=serai_… java -cp 'target/classes:target/lib/*' examples/RunJob.java sh -c 'echo Hello'</pre>
 *
 * <p>Its own words come on stderr and begin with "serai: ". 125 = the job could not be submitted or followed.
 */
final class RunJob {

    private static final int NO_RESULT = 125;

    public static void main(String[] command) {
        if (command.length == 0) {
            System.err.println("usage: RunJob PROGRAM [ARGUMENT...]");
            System.exit(NO_RESULT);
        }
        int code = NO_RESULT;
        try (Serai serai = connect()) {
            code = run(serai, List.of(command));
        } catch (ExecutionException | RuntimeException | InterruptedException error) {
            say(Errors.explain(error instanceof ExecutionException ? error.getCause() : error));
        }
        System.exit(code);
    }

    private static Serai connect() {
        Options options = Options.defaults().withToken(setting("SERAI_TOKEN"));
        if (!setting("SERAI_CA").isEmpty()) {
            options = options.withCaFile(Path.of(setting("SERAI_CA")));
        }
        if (!setting("SERAI_CERTIFICATE").isEmpty()) {
            options = options.withCertificate(Path.of(setting("SERAI_CERTIFICATE")), Path.of(setting("SERAI_KEY")));
        }
        return Serai.connect(setting("SERAI_ADDRESS"), options);
    }

    private static int run(Serai serai, List<String> command) throws ExecutionException, InterruptedException {
        SubmitRequest request = SubmitRequest.newBuilder()
                .setOwner("tools")
                .setProject(setting("SERAI_PROJECT"))
                .setImage(setting("SERAI_IMAGE"))
                .addAllCommand(command)
                .build();
        String jobId = serai.jobs().submit(request).getJobId();
        say("job " + jobId + " submitted");

        ExecutorService beside = Executors.newSingleThreadExecutor();
        try {
            Future<?> output = beside.submit(() -> copyOutput(serai, jobId));
            JobReport last = tellStates(serai, jobId);
            output.get();
            int code = Outcome.exitCode(last);
            say("job " + jobId + " ended: exit code " + code);
            return code;
        } finally {
            beside.shutdownNow();
        }
    }

    private static JobReport tellStates(Serai serai, String jobId) {
        JobReport last = null;
        JobState told = null;
        try (Answers<JobReport> reports = serai.watch(jobId)) {
            while (reports.hasNext()) {
                last = reports.next();
                if (last.getState() != told) {
                    told = last.getState();
                    say("job " + jobId + " is " + Outcome.name(told));
                }
            }
        }
        return last;
    }

    private static Void copyOutput(Serai serai, String jobId) throws IOException {
        try (Answers<FollowResponse> pieces = serai.follow(jobId)) {
            while (pieces.hasNext()) {
                FollowResponse piece = pieces.next();
                OutputStream to = piece.getStream() == org.example.serai.jobs.v1.OutputStream.OUTPUT_STREAM_STDERR ? System.err : System.out;
                piece.getData().writeTo(to);
                to.flush();
            }
        }
        return null;
    }

    private static void say(String words) {
        System.err.println("serai: " + words);
    }

    private static String setting(String name) {
        return System.getenv().getOrDefault(name, "");
    }
}
