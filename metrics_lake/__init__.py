"""ML metrics as Parquet in your own bucket or folder: no server, no catalog, no lost points."""

__version__ = "0.1.0"
