package org.example.serai.client;

import io.grpc.Context;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.function.Function;
import java.util.function.Supplier;

/**
 * Answers of a call as they come, over broken connections: the call is made again when it breaks, until it ends or the server does not
 * answer for longer than the client's patience.
 *
 * <p>For one thread, but {@link #close} may be called by any: it ends the call, and the loop that reads it. Interrupting that thread ends
 * it with CANCELLED.
 *
 * @param <T> what comes
 */
public final class Answers<T> implements Iterator<T>, AutoCloseable {

    private static final long FIRST_WAIT_MS = 200;
    private static final long LONGEST_WAIT_MS = 5_000;

    private final Duration patience;
    private final BooleanSupplier again;
    private final Supplier<Iterator<T>> open;
    private final Context.CancellableContext context = Context.current().withCancellation();
    private final CountDownLatch closed = new CountDownLatch(1);

    private Iterator<T> call;
    private T next;
    private long waitMs = FIRST_WAIT_MS;
    private long heardNanos = System.nanoTime();

    /**
     * @param again called when the call is about to be made again; false = the connection was closed
     * @param read takes what is wanted of an answer; null = nothing
     */
    <A> Answers(Duration patience, BooleanSupplier again, Supplier<Iterator<A>> open, Function<A, T> read) {
        this.patience = patience;
        this.again = again;
        this.open = () -> mapped(open.get(), read);
    }

    private static <A, T> Iterator<T> mapped(Iterator<A> answers, Function<A, T> read) {
        return new Iterator<>() {
            @Override
            public boolean hasNext() {
                return answers.hasNext();
            }

            @Override
            public T next() {
                return read.apply(answers.next());
            }
        };
    }

    /** Waits for the next answer. false = there is none any more, or this was closed. */
    @Override
    public boolean hasNext() {
        while (next == null && closed.getCount() > 0) {
            try {
                if (call == null) {
                    call = started();
                }
                if (!call.hasNext()) {
                    close();
                    return false;
                }
                next = call.next();
                waitMs = FIRST_WAIT_MS;
                heardNanos = System.nanoTime();
            } catch (StatusRuntimeException broken) {
                if (closed.getCount() > 0) {
                    pause(broken);
                }
            }
        }
        return next != null && closed.getCount() > 0;
    }

    @Override
    public T next() {
        if (!hasNext()) {
            throw new NoSuchElementException();
        }
        T taken = next;
        next = null;
        return taken;
    }

    @Override
    public void close() {
        closed.countDown();
        context.cancel(null);
    }

    /** The call, bound to the context so that closing ends it. */
    private Iterator<T> started() {
        Context before = context.attach();
        try {
            return open.get();
        } finally {
            context.detach(before);
        }
    }

    /** Waits before the next try. Throws `broken` when trying again is of no use. */
    private void pause(StatusRuntimeException broken) {
        boolean ours = context.isCancelled() || Thread.currentThread().isInterrupted();
        boolean late = System.nanoTime() - heardNanos > patience.toNanos();
        if (ours || late || !Errors.interrupted(broken) || !again.getAsBoolean()) {
            close();
            throw broken;
        }
        call = null;
        try {
            closed.await(waitMs, TimeUnit.MILLISECONDS);
        } catch (InterruptedException interrupt) {
            Thread.currentThread().interrupt();
            close();
            throw Status.CANCELLED.withDescription("interrupted").withCause(interrupt).asRuntimeException();
        }
        waitMs = Math.min(2 * waitMs, LONGEST_WAIT_MS);
    }
}
