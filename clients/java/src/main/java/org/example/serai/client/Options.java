package org.example.serai.client;

import java.nio.file.Path;
import java.time.Duration;
import java.util.Objects;
import java.util.function.Supplier;

/**
 * How to connect. Each {@code with…} gives a copy that differs in one thing.
 *
 * @param token asked before each call, so that a renewed token is taken up; null = none is sent, which only the server's own Unix socket
 *     takes
 * @param caFile PEM file of the authorities that may sign the server's certificate; null = those that Java trusts
 * @param certificateFile this client's own certificate in PEM, where the server knows it by that; null = none
 * @param keyFile its key in PEM; null = none
 * @param callTimeout ends a call with one answer whose stub has no deadline
 * @param patience for how long {@link Serai#watch} and {@link Serai#follow} wait for a server that is away, from the first break on
 */
public record Options(
        Supplier<String> token, Path caFile, Path certificateFile, Path keyFile, Duration callTimeout, Duration patience) {

    private static final Options DEFAULTS = new Options(null, null, null, null, Duration.ofSeconds(30), Duration.ofMinutes(1));

    public Options {
        Objects.requireNonNull(callTimeout, "callTimeout");
        Objects.requireNonNull(patience, "patience");
    }

    /** No token, TLS as Java trusts it, 30 s for a call, a minute of patience. */
    public static Options defaults() {
        return DEFAULTS;
    }

    /** @param token "serai_…", made by {@code serai tokens create}; null or empty = none */
    public Options withToken(String token) {
        return withTokens(token == null || token.isEmpty() ? null : () -> token);
    }

    /** @param source gives the token of each call; null = none */
    public Options withTokens(Supplier<String> source) {
        return new Options(source, caFile, certificateFile, keyFile, callTimeout, patience);
    }

    public Options withCaFile(Path file) {
        return new Options(token, file, certificateFile, keyFile, callTimeout, patience);
    }

    public Options withCertificate(Path certificate, Path key) {
        return new Options(token, caFile, Objects.requireNonNull(certificate), Objects.requireNonNull(key), callTimeout, patience);
    }

    public Options withCallTimeout(Duration timeout) {
        return new Options(token, caFile, certificateFile, keyFile, timeout, patience);
    }

    public Options withPatience(Duration patience) {
        return new Options(token, caFile, certificateFile, keyFile, callTimeout, patience);
    }

    /** Says no token. */
    @Override
    public String toString() {
        return "Options[caFile=" + caFile + ", certificateFile=" + certificateFile + ", callTimeout=" + callTimeout + ", patience=" + patience + "]";
    }
}
