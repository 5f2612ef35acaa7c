//! Edges and clouds with scripted engines, talking over loopback sockets.

mod answers;
mod faults;
mod protocol;
mod restarts;
mod world;
