// Package serai talks to Serai, a UCloud compute provider: it starts jobs, watches them and follows what they write.
//
// A [Client] holds one connection and the generated stubs of every service of Serai. Each call carries the client's token, and has a
// deadline of its own when the context has none. [Client.Watch] and [Client.Follow] go on where they were when a connection breaks or
// the server is started anew.
//
// Everything under api/ is generated from Serai's protos; the other files are written by hand and stay small.
package serai
