package org.example.serai.client;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.example.serai.core.v1.NameAndVersion;
import org.example.serai.core.v1.ProductReference;
import org.example.serai.core.v1.ResourceOwner;
import org.example.serai.core.v1.SimpleDuration;
import org.example.serai.jobs.v1.Application;
import org.example.serai.jobs.v1.ApplicationInvocation;
import org.example.serai.jobs.v1.ApplicationMetadata;
import org.example.serai.jobs.v1.ApplicationType;
import org.example.serai.jobs.v1.InvocationParameter;
import org.example.serai.jobs.v1.Job;
import org.example.serai.jobs.v1.JobSpecification;
import org.example.serai.jobs.v1.JobState;
import org.example.serai.jobs.v1.JobStatus;
import org.example.serai.jobs.v1.Tool;
import org.example.serai.jobs.v1.ToolBackend;
import org.example.serai.jobs.v1.ToolDescription;
import org.example.serai.jobs.v1.ToolReference;
import org.example.serai.jobs.v1.WordInvocation;

/**
 * What one must know of a job that runs one program. {@link #job} makes the message of it, in which anything else can be set.
 *
 * <p>UCloud resolves an application of its store into a job; a tool that submits by itself has none, so the program and its arguments
 * stand in the job as words of an application of its own.
 */
public final class JobSpec {

    private static final NameAndVersion WHAT = NameAndVersion.newBuilder().setName("tool").setVersion("1").build();

    private final String owner;
    private final ProductReference product;
    private final List<String> command;
    private String id = "tool-" + UUID.randomUUID();
    private String project = "";
    private String image = "";
    private String name = "";
    private int replicas = 1;
    private Duration timeLimit = Duration.ZERO;
    private Map<String, String> environment = Map.of();

    /**
     * @param owner the username in whose drive the output is kept
     * @param product the machine type; {@code RetrieveProducts} lists those that there are
     * @param command the program and its arguments, each unchanged
     */
    public JobSpec(String owner, ProductReference product, List<String> command) {
        this.owner = owner;
        this.product = product;
        this.command = List.copyOf(command);
    }

    /** @param id 1 to 64 letters, digits, '-' and '_', never used before; not set = a new one by chance */
    public JobSpec id(String id) {
        this.id = id;
        return this;
    }

    /** @param project of the owner; empty = their personal workspace. Must be the token's project where the token has one */
    public JobSpec project(String project) {
        this.project = project;
        return this;
    }

    /** @param image of the container, where jobs run in containers; empty = none */
    public JobSpec image(String image) {
        this.image = image;
        return this;
    }

    /** @param name for people; empty = none */
    public JobSpec name(String name) {
        this.name = name;
        return this;
    }

    /** @param replicas that run the command at the same time */
    public JobSpec replicas(int replicas) {
        this.replicas = replicas;
        return this;
    }

    /** @param limit of RUNNING, in whole seconds, rounded up; zero = none */
    public JobSpec timeLimit(Duration limit) {
        this.timeLimit = limit;
        return this;
    }

    /** @param environment of the program, beside what Serai sets */
    public JobSpec environment(Map<String, String> environment) {
        this.environment = Map.copyOf(environment);
        return this;
    }

    /** The message that {@link Serai#submit} takes. */
    public Job job() {
        ResourceOwner.Builder whose = ResourceOwner.newBuilder().setCreatedBy(owner);
        if (!project.isEmpty()) {
            whose.setProject(project);
        }
        JobStatus.Builder status = JobStatus.newBuilder().setState(JobState.JOB_STATE_IN_QUEUE).setResolvedApplication(application());
        return Job.newBuilder().setId(id).setOwner(whose).setSpecification(specification()).setStatus(status).build();
    }

    private JobSpecification specification() {
        JobSpecification.Builder made = JobSpecification.newBuilder().setApplication(WHAT).setProduct(product).setReplicas(replicas);
        if (!name.isEmpty()) {
            made.setName(name);
        }
        if (!timeLimit.isZero()) {
            Duration whole = timeLimit.plusNanos(999_999_999);
            made.setTimeAllocation(SimpleDuration.newBuilder()
                    .setHours(Math.toIntExact(whole.toHours()))
                    .setMinutes(whole.toMinutesPart())
                    .setSeconds(whole.toSecondsPart()));
        }
        return made.build();
    }

    private Application application() {
        ToolDescription.Builder tool = ToolDescription.newBuilder().setInfo(WHAT).setBackend(ToolBackend.TOOL_BACKEND_DOCKER);
        if (!image.isEmpty()) {
            tool.setImage(image);
        }
        ApplicationInvocation.Builder invocation = ApplicationInvocation.newBuilder()
                .setTool(ToolReference.newBuilder()
                        .setName(WHAT.getName())
                        .setVersion(WHAT.getVersion())
                        .setTool(Tool.newBuilder().setDescription(tool)))
                .setApplicationType(ApplicationType.APPLICATION_TYPE_BATCH)
                .setAllowMultiNode(replicas > 1);
        command.forEach(argument -> invocation.addInvocation(word(argument)));
        environment.forEach((variable, value) -> invocation.putEnvironment(variable, word(value)));
        return Application.newBuilder()
                .setMetadata(
                        ApplicationMetadata.newBuilder().setName(WHAT.getName()).setVersion(WHAT.getVersion()).setTitle("Tool"))
                .setInvocation(invocation)
                .build();
    }

    private static InvocationParameter word(String text) {
        return InvocationParameter.newBuilder().setWord(WordInvocation.newBuilder().setWord(text)).build();
    }
}
