"""License servers, the operator's side: looked at, asked for the seats in use, their keys sealed. What is outside sees `licenses.ports`."""
