module example.org/serai/bench/load

go 1.24
