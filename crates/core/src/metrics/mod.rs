//! Retrieval metrics: Recall@K, MAP@R, R-precision.
