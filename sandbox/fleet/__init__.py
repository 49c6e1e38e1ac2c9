"""Many functions: their lines in a store of Parquet files, questions over it, and profiles learned from it."""
