// The load generator of bench/front.py: keep-alive connections with one request in flight on each, in one thread over epoll, with requests
// that were made before the clock runs. What is measured shares its CPUs with it, so that its own work must be small.
//
// Reads one JSON line per measurement from its input and answers with one. The first answer is told, for its reader to judge; each further one
// must be 200 with the same body, byte for byte, or the measurement fails. Answers that are not whole are not counted.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

const (
	ok       = "HTTP/1.1 200 "
	longest  = 64 << 10 // bytes of an answer
	patience = 10       // seconds in which something must happen
)

type plan struct {
	Port        int      `json:"port"`
	Host        string   `json:"host"`
	Token       string   `json:"token"`
	Path        string   `json:"path"`
	Bodies      []string `json:"bodies"` // sent in turn
	Connections int      `json:"connections"`
	Seconds     float64  `json:"seconds"`
}

type found struct {
	Requests int     `json:"requests"`
	Seconds  float64 `json:"seconds"`
	Answer   string  `json:"answer"` // the body of each
}

type connection struct {
	fd   int
	got  []byte // of the answer that is coming
	idle bool   // nothing is asked any more
}

type generator struct {
	requests [][]byte
	next     int
	body     []byte
}

func main() {
	runtime.LockOSThread() // the thread that was given its CPU
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(-1)
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var wanted plan
		if err := json.Unmarshal(line, &wanted); err != nil {
			log.Fatal(err)
		}
		said, err := measure(wanted)
		if err != nil {
			log.Fatal(err)
		}
		text, err := json.Marshal(said)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", text)
		runtime.GC()
	}
}

func measure(wanted plan) (found, error) {
	load := generator{}
	for _, body := range wanted.Bodies {
		head := "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nUCloud-Username: user\r\nContent-Length: %d\r\n\r\n%s"
		load.requests = append(load.requests, fmt.Appendf(nil, head, wanted.Path, wanted.Host, wanted.Token, len(body), body))
	}
	epoll, err := syscall.EpollCreate1(0)
	if err != nil {
		return found{}, err
	}
	defer syscall.Close(epoll)
	length, err := load.first(wanted.Port)
	if err != nil {
		return found{}, err
	}
	connections := make(map[int32]*connection)
	began := time.Now()
	until := began.Add(time.Duration(wanted.Seconds * float64(time.Second)))
	for range wanted.Connections {
		fd, err := connect(wanted.Port)
		if err != nil {
			return found{}, err
		}
		defer syscall.Close(fd)
		// An answer comes in pieces: nobody is woken before all of it is there.
		if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, length); err != nil {
			return found{}, err
		}
		connections[int32(fd)] = &connection{fd: fd, got: make([]byte, 0, longest)}
		event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
		if err := syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, fd, &event); err != nil {
			return found{}, err
		}
		if err := load.ask(fd); err != nil {
			return found{}, err
		}
	}
	answers := 0
	events := make([]syscall.EpollEvent, wanted.Connections)
	for underWay := wanted.Connections; underWay > 0; {
		count, err := wait(epoll, events)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return found{}, err
		}
		if count == 0 {
			return found{}, fmt.Errorf("no answer within %d s", patience)
		}
		for _, event := range events[:count] {
			asked := connections[event.Fd]
			whole, err := load.read(asked)
			if err != nil {
				return found{}, err
			}
			if !whole {
				continue
			}
			answers++
			if time.Now().Before(until) {
				err = load.ask(asked.fd)
			} else {
				asked.idle = true
				underWay--
			}
			if err != nil {
				return found{}, err
			}
		}
	}
	return found{answers, time.Since(began).Seconds(), string(load.body)}, nil
}

// Keeps the body of an answer on a connection of its own; the bytes of all of that answer.
func (load *generator) first(port int) (int, error) {
	fd, err := connect(port)
	if err != nil {
		return 0, err
	}
	defer syscall.Close(fd)
	if err := syscall.SetNonblock(fd, false); err != nil {
		return 0, err
	}
	if err := load.ask(fd); err != nil {
		return 0, err
	}
	got := make([]byte, 0, longest)
	for {
		count, err := syscall.Read(fd, got[len(got):cap(got)])
		if err != nil || count == 0 {
			return 0, fmt.Errorf("no whole answer, but %q (%v)", got, err)
		}
		got = got[:len(got)+count]
		body, length, err := parts(got)
		if err != nil {
			return 0, err
		}
		if body != nil && len(body) == length {
			load.body = bytes.Clone(body)
			return len(got), nil
		}
	}
}

// Whether the answer is whole now.
func (load *generator) read(asked *connection) (bool, error) {
	if asked.idle {
		return false, fmt.Errorf("a connection with nothing under way was closed or answered")
	}
	room := asked.got[len(asked.got):cap(asked.got)]
	count, err := transfer(syscall.SYS_READ, asked.fd, room)
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return false, nil
	}
	if err != nil || count == 0 {
		return false, fmt.Errorf("the server closed the connection after %q (%v)", asked.got, err)
	}
	asked.got = asked.got[:len(asked.got)+count]
	body, length, err := parts(asked.got)
	if err != nil || body == nil {
		return false, err
	}
	if len(body) < length {
		return false, nil
	}
	if length != len(load.body) || !bytes.Equal(body, load.body) {
		return false, fmt.Errorf("another answer than the first: %q", asked.got)
	}
	asked.got = asked.got[:0]
	return true, nil
}

// What there is of the body, and how long it says to be; nil while the head is coming.
func parts(got []byte) ([]byte, int, error) {
	if len(got) >= len(ok) && string(got[:len(ok)]) != ok {
		return nil, 0, fmt.Errorf("unexpected answer: %q", got)
	}
	head, body, whole := bytes.Cut(got, []byte("\r\n\r\n"))
	if !whole {
		return nil, 0, nil
	}
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(": "))
		if len(name) == len("content-length") && bytes.EqualFold(name, []byte("content-length")) {
			length, err := strconv.Atoi(string(value))
			return body, length, err
		}
	}
	return nil, 0, fmt.Errorf("an answer without a length: %q", head)
}

func (load *generator) ask(fd int) error {
	request := load.requests[load.next]
	load.next = (load.next + 1) % len(load.requests)
	// Nothing else is under way on the connection, so that there is room for all of it.
	if count, err := transfer(syscall.SYS_WRITE, fd, request); err != nil || count != len(request) {
		return fmt.Errorf("a request could not be sent whole: %d bytes (%v)", count, err)
	}
	return nil
}

// Go's own calls tell its scheduler of each, which wakes a second thread to take over; here there is nothing to take over.
func transfer(call uintptr, fd int, bytes []byte) (int, error) {
	count, _, failed := syscall.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(bytes))), uintptr(len(bytes)))
	if failed != 0 {
		return 0, failed
	}
	return int(count), nil
}

func wait(epoll int, events []syscall.EpollEvent) (int, error) {
	first, most := unsafe.Pointer(unsafe.SliceData(events)), uintptr(len(events))
	count, _, failed := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(first), most, patience*1_000, 0, 0)
	if failed != 0 {
		return 0, failed
	}
	return int(count), nil
}

func connect(port int) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		syscall.Close(fd)
		return 0, err
	}
	if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
		syscall.Close(fd)
		return 0, err
	}
	return fd, syscall.SetNonblock(fd, true)
}
