package org.example.serai.client;

import java.net.URI;
import java.net.URISyntaxException;

/**
 * Where a server is.
 *
 * @param socket path of a Unix socket; null = at host and port
 * @param tls false: anybody on the way can read along
 */
record Address(String host, int port, String socket, boolean tls) {

    /** @throws IllegalArgumentException for a text of another form */
    static Address parse(String text) {
        if (text != null && text.startsWith("unix:") && text.length() > "unix:".length()) {
            return new Address("localhost", 0, text.substring("unix:".length()), false);
        }
        try {
            URI uri = new URI(text == null ? "" : text);
            boolean tls = "https".equals(uri.getScheme());
            boolean plain = "http".equals(uri.getScheme());
            boolean bare = uri.getPath() == null || uri.getPath().isEmpty() || uri.getPath().equals("/");
            if ((tls || plain) && uri.getHost() != null && bare) {
                int standard = tls ? 443 : 80;
                return new Address(uri.getHost(), uri.getPort() < 0 ? standard : uri.getPort(), null, tls);
            }
        } catch (URISyntaxException wrong) {
            // Told below, as every other text that is no address.
        }
        throw new IllegalArgumentException(
                "\"" + text + "\" is no address of a server: expected https://host[:port], http://host[:port] or unix:/path");
    }

    /** Whether nobody else reads what is sent there. */
    boolean isPrivate() {
        return tls || socket != null || host.equals("localhost") || host.equals("[::1]") || host.matches("127\\.\\d+\\.\\d+\\.\\d+");
    }
}
