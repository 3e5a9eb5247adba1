//! Layer operations, each once portable on candle and once fast on the CPU.
