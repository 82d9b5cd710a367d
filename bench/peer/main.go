// A grpc-gateway that reads a create and answers it, and does nothing else: the peer of bench/front.py. Prints its port, and serves until its
// input ends.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	jobs "example.org/serai/clients/go/api/serai/jobs/v1"

	gateway "example.org/serai/bench/peer/gateway/serai/jobs/v1"
)

type servicer struct {
	jobs.UnimplementedJobsServiceServer
}

func (servicer) Create(_ context.Context, request *jobs.CreateRequest) (*jobs.CreateResponse, error) {
	answer := &jobs.CreateResponse{}
	for range request.GetItems() {
		answer.Responses = append(answer.Responses, &jobs.CreatedJob{})
	}
	return answer, nil
}

func main() {
	mux := runtime.NewServeMux()
	// In the same process, without a connection in between: as quick as it gets.
	if err := gateway.RegisterJobsServiceHandlerServer(context.Background(), mux, servicer{}); err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go func() { log.Fatal(http.Serve(listener, mux)) }()
	_, _ = io.Copy(io.Discard, os.Stdin)
}
