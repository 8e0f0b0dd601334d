//! The policy of a byte stream: the read buffer, the write queue, and when its writer should pause.

mod datagram_queue;
mod flush_trigger;
mod read_buffer;
mod watermarks;
mod write_queue;

pub use datagram_queue::DatagramQueue;
pub use flush_trigger::{FlushTrigger, WriteStep};
pub use read_buffer::{KeptBuffer, ReadBuffer, SpareBuffers};
pub use watermarks::{Flow, WaterMarks, WrongWaterMarks};
pub use write_queue::{Flushed, WriteQueue};
