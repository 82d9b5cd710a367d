"""`python -m serai_server.cli` is `serai`."""

from serai_server.cli.main import main

main()
