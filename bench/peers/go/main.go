// Peer "go" of bench/world.py (datagrams, TLS and programs), bench/tails.py (tails.go) and bench/micro.py (micro.go), by Go's
// standard library.
//
// It keeps the contract of the other peers: list, version, or a workload with key=value words. The child of process_spawn
// is the program that BENCH_CHILD names.
package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

type args map[string]int

func (a args) get(key string, otherwise int) int {
	if v, ok := a[key]; ok {
		return v
	}
	return otherwise
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "go:", err)
		os.Exit(1)
	}
}

func cpuSeconds(who int) float64 {
	var ru syscall.Rusage
	check(syscall.Getrusage(who, &ru))
	return float64(ru.Utime.Nano()+ru.Stime.Nano()) / 1e9
}

// udpEcho serves until it is killed: on one socket, by as many goroutines as there are threads, and with the calls that
// allocate nothing. The standard library has none for several datagrams at once.
func udpEcho(a args) {
	where := net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: a.get("port", 9000)}
	socket, err := net.ListenUDP("udp4", &where)
	check(err)
	serve := func() {
		buffer := make([]byte, 2048)
		for {
			n, from, err := socket.ReadFromUDPAddrPort(buffer)
			check(err)
			_, err = socket.WriteToUDPAddrPort(buffer[:n], from)
			check(err)
		}
	}
	for i := 1; i < a.get("tasks", a.get("threads", 2)); i++ {
		go serve()
	}
	serve()
}

// tlsEcho serves until it is killed, with the certificate and key of BENCH_CERT.
func tlsEcho(a args) {
	file := os.Getenv("BENCH_CERT")
	certificate, err := tls.LoadX509KeyPair(file, file)
	check(err)
	where := fmt.Sprintf("127.0.0.1:%d", a.get("port", 9000))
	listener, err := tls.Listen("tcp", where, &tls.Config{Certificates: []tls.Certificate{certificate}})
	check(err)
	for {
		connection, err := listener.Accept()
		check(err)
		go func() {
			defer connection.Close()
			buffer := make([]byte, 4096)
			for {
				n, err := connection.Read(buffer)
				if err == nil {
					_, err = connection.Write(buffer[:n])
				}
				if err != nil {
					return // it has gone
				}
			}
		}()
	}
}

// processSpawn starts programs that have the caller's own standard descriptors, and waits for them.
func processSpawn(a args) {
	n, tasks := a.get("n", 2000), a.get("tasks", 1)
	program := os.Getenv("BENCH_CHILD")
	if program == "" {
		program = "/bin/true"
	}
	cpu, children, start := cpuSeconds(syscall.RUSAGE_SELF), cpuSeconds(syscall.RUSAGE_CHILDREN), time.Now()
	var all sync.WaitGroup
	for i := 0; i < tasks; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for i := 0; i < n/tasks; i++ {
				child := exec.Command(program)
				child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
				check(child.Run()) // an error also if the status is not 0
			}
		}()
	}
	all.Wait()
	seconds, ops := time.Since(start).Seconds(), n/tasks*tasks
	cpu, children = cpuSeconds(syscall.RUSAGE_SELF)-cpu, cpuSeconds(syscall.RUSAGE_CHILDREN)-children
	fmt.Printf(`{"peer":"go","workload":"process_spawn","ops":%d,"seconds":%.6f,"ns_per_op":%.2f,"cpu_s":%.6f,"children_cpu_s":%.6f}`+"\n",
		ops, seconds, seconds*1e9/float64(ops), cpu, children)
}

func main() {
	workloads := map[string]func(args){"micro": micro, "process_spawn": processSpawn, "tails_blocked": tailsBlocked, "tails_hogs": tailsHogs,
		"tails_pair": tailsPair, "tails_ready": tailsReady, "tails_storm": tailsStorm, "tails_timers": tailsTimers,
		"tls_echo": tlsEcho, "udp_echo": udpEcho}
	name := ""
	if len(os.Args) > 1 {
		name = os.Args[1]
	}
	run, ok := workloads[name]
	switch {
	case name == "list":
		fmt.Println("micro process_spawn tails_blocked tails_hogs tails_pair tails_ready tails_storm tails_timers tls_echo udp_echo")
	case name == "version":
		fmt.Println("Go", strings.TrimPrefix(runtime.Version(), "go"))
	case !ok:
		fmt.Fprintln(os.Stderr, "usage: go list | version | WORKLOAD [key=value...]")
		os.Exit(2)
	default:
		a := args{}
		for _, word := range os.Args[2:] {
			key, value, _ := strings.Cut(word, "=")
			number, err := strconv.Atoi(value)
			check(err)
			a[key] = number
		}
		runtime.GOMAXPROCS(a.get("threads", 2))
		run(a)
	}
}
