//! From socket to request: listeners, connections, their limits and time-outs. Generic over who
//! answers; knows nothing of tokens or routes.

pub mod settings;
