package org.example.serai.client;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.Context;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.ForwardingClientCallListener.SimpleForwardingClientCallListener;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.BooleanSupplier;
import java.util.function.Function;

/**
 * Answers of a call as they come, over broken connections: the call is made again when it breaks, until it ends or the server is away for
 * longer than the client's patience. That begins at the first break after the server was there, however long the call was quiet until then.
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
    private final Function<ClientInterceptor, Iterator<T>> open;
    private final BooleanSupplier over;
    private final AtomicBoolean heard = new AtomicBoolean();
    private final Context.CancellableContext context = Context.current().withCancellation();
    private final CountDownLatch closed = new CountDownLatch(1);

    private Iterator<T> call;
    private T next;
    private long waitMs = FIRST_WAIT_MS;
    private boolean away;
    private long awayNanos;

    /**
     * @param again called when the call is about to be made again; false = the connection was closed
     * @param open makes the call through an interceptor
     * @param read takes what is wanted of an answer; null = nothing
     * @param over whether everything came when the server ended the call
     */
    <A> Answers(
            Duration patience,
            BooleanSupplier again,
            Function<ClientInterceptor, Iterator<A>> open,
            Function<A, T> read,
            BooleanSupplier over) {
        this.patience = patience;
        this.again = again;
        this.open = listening -> mapped(open.apply(listening), read);
        this.over = over;
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
                    if (!over.getAsBoolean()) {
                        throw Status.UNAVAILABLE
                                .withDescription("the server stopped telling about the job before it was over")
                                .asRuntimeException();
                    }
                    close();
                    return false;
                }
                next = call.next();
            } catch (Places.MissingOutput missing) {
                close();
                throw missing;
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
            return open.apply(new Listening());
        } finally {
            context.detach(before);
        }
    }

    /** Waits before the next try. Throws `broken` when trying again is of no use. */
    private void pause(StatusRuntimeException broken) {
        boolean ours = context.isCancelled() || Thread.currentThread().isInterrupted();
        if (heard.getAndSet(false)) {
            away = false;
            waitMs = FIRST_WAIT_MS;
        }
        if (!away) {
            away = true;
            awayNanos = System.nanoTime();
        }
        boolean late = System.nanoTime() - awayNanos > patience.toNanos();
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

    /** Notes that the server holds the call, which it says before it has an answer. An error that is all that comes has no headers. */
    private final class Listening implements ClientInterceptor {
        @Override
        public <Q, A> ClientCall<Q, A> interceptCall(MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
            return new SimpleForwardingClientCall<>(next.newCall(method, options)) {
                @Override
                public void start(Listener<A> listener, Metadata headers) {
                    super.start(
                            new SimpleForwardingClientCallListener<>(listener) {
                                @Override
                                public void onHeaders(Metadata told) {
                                    heard.set(true);
                                    super.onHeaders(told);
                                }
                            },
                            headers);
                }
            };
        }
    }
}
