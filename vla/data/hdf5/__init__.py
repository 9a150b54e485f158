"""Episodes out of HDF5 files, in the layouts of robomimic (LIBERO) and ACT (ALOHA)."""
