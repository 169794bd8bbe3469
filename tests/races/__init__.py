"""Users of one site with several processes, who save, log in and log out at every bad moment."""
