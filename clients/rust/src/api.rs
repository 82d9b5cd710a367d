//! What is generated from Serai's protos: messages, and a client for each service.

#![allow(clippy::all, rustdoc::all, missing_docs)]

macro_rules! package {
    ($($name:ident),*) => {$(
        pub mod $name {
            pub mod v1 {
                include!(concat!("api/serai/", stringify!($name), "/v1/serai.", stringify!($name), ".v1.rs"));
            }
        }
    )*};
}

package!(access, core, events, jobs, licenses, sessions, tokens, wire);
