/** Jobs of a Serai compute provider: {@link org.example.serai.client.Serai} connects, submits, watches, follows. */
package org.example.serai.client;
