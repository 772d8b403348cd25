"""The board: the runs below a folder, live, as pages made on the server."""
