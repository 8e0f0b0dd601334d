//! Messages that are to be accepted and messages that are not, in whatever pieces they come.
#![cfg(test)]

mod corpus;
mod interface;
mod limits;
mod properties;
mod transcript;
