//! Edges and clouds with scripted engines, talking over loopback sockets.

mod access;
mod answers;
mod faults;
mod numbers;
mod protocol;
mod restarts;
mod steering;
mod turns;
mod world;
