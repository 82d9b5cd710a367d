package org.example.serai.client;

import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.example.serai.jobs.v1.FollowOffset;
import org.example.serai.jobs.v1.FollowResponse;
import org.example.serai.jobs.v1.OutputStream;

/** How far the output of a job was read: what a reader must keep to go on after a cut, in this process or in a later one. */
public final class Places {

    /** The server left out some of the output, for a reason that it did not tell; its code is DATA_LOSS. */
    public static final class MissingOutput extends StatusRuntimeException {
        private static final long serialVersionUID = 1;

        private MissingOutput(int rank, long from, long to) {
            super(Status.DATA_LOSS.withDescription("bytes " + from + " to " + to + " of the output of rank " + rank + " did not come"));
        }
    }

    private record Stream(int rank, OutputStream stream) {}

    /** Bytes of each that were read. */
    private final Map<Stream, Long> read = new LinkedHashMap<>();

    /** Whether a stream without an offset may begin anywhere. */
    private final boolean tail;

    /** From the beginning of every stream. */
    public Places() {
        this(List.of());
    }

    /** @param offsets where to begin in each stream; at its beginning where none is given */
    public Places(Iterable<FollowOffset> offsets) {
        this(offsets, false);
    }

    Places(Iterable<FollowOffset> offsets, boolean tail) {
        this.tail = tail;
        for (FollowOffset offset : offsets) {
            read.put(new Stream(offset.getRank(), offset.getStream()), offset.getOffset());
        }
    }

    /**
     * What of a piece was not there before, and that it is read now; null = nothing.
     *
     * @throws MissingOutput when something before it did not come
     */
    public FollowResponse newOf(FollowResponse piece) {
        Stream key = new Stream(piece.getRank(), piece.getStream());
        long place = read.getOrDefault(key, tail ? piece.getOffset() : 0L);
        if (piece.getOffset() > place) {
            throw new MissingOutput(piece.getRank(), place, piece.getOffset());
        }
        long known = place - piece.getOffset();
        if (known >= piece.getData().size()) {
            return null;
        }
        read.put(key, piece.getOffset() + piece.getData().size());
        if (known == 0) {
            return piece;
        }
        return piece.toBuilder().setOffset(piece.getOffset() + known).setData(piece.getData().substring((int) known)).build();
    }

    /** Where to go on, for {@link org.example.serai.jobs.v1.FollowRequest.Builder#addAllOffsets}. */
    public List<FollowOffset> offsets() {
        return read.entrySet().stream()
                .map(at -> FollowOffset.newBuilder()
                        .setRank(at.getKey().rank())
                        .setStream(at.getKey().stream())
                        .setOffset(at.getValue())
                        .build())
                .toList();
    }
}
