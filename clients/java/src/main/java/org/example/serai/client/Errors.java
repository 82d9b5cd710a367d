package org.example.serai.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import io.grpc.Status;
import io.grpc.StatusException;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.Optional;

/** What an error of a call means. */
public final class Errors {

    private static final String DOMAIN = "serai";

    private Errors() {}

    /** Serai's own word for an error, such as "JOB_UNKNOWN"; empty for one that Serai did not send. */
    public static Optional<String> reason(Throwable error) {
        com.google.rpc.Status told = StatusProto.fromThrowable(error);
        if (told == null) {
            return Optional.empty();
        }
        for (Any detail : told.getDetailsList()) {
            if (detail.is(ErrorInfo.class)) {
                try {
                    ErrorInfo info = detail.unpack(ErrorInfo.class);
                    if (info.getDomain().equals(DOMAIN)) {
                        return Optional.of(info.getReason());
                    }
                } catch (InvalidProtocolBufferException wrong) {
                    return Optional.empty();
                }
            }
        }
        return Optional.empty();
    }

    /** The error in one line: its code as gRPC names it, then the words for a person. */
    public static String explain(Throwable error) {
        Status status = status(error);
        String words = status == null ? error.getMessage() : status.getCode() + ": " + described(status);
        return String.valueOf(words).strip().replaceAll("\\s+", " ");
    }

    private static String described(Status status) {
        String said = status.getDescription() == null ? "no reason was given" : status.getDescription();
        boolean nothingCame = status.getCode() == Status.Code.UNAVAILABLE && status.getCause() != null;
        return nothingCame ? said + " (" + status.getCause().getMessage() + ")" : said;
    }

    private static Status status(Throwable error) {
        if (error instanceof StatusRuntimeException told) {
            return told.getStatus();
        }
        return error instanceof StatusException told ? told.getStatus() : null;
    }

    /** Whether the way to the server broke, or the server is being started anew: the call may be made again. */
    static boolean interrupted(StatusRuntimeException error) {
        return switch (error.getStatus().getCode()) {
            case UNAVAILABLE -> true;
            // So gRPC tells of a reset stream; Serai's own errors carry their reason.
            case CANCELLED, INTERNAL, UNKNOWN -> reason(error).isEmpty();
            default -> false;
        };
    }
}
