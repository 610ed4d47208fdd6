// What bench/tails.py asks of Go: the same servers and loops as in bench/work_tails.c.
//
// A server has one goroutine for each connection. A request is 64 bytes; the answer is the same, but that its first 8 bytes
// say how much has been done beside.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	requestBytes = 64
	fine         = 32
	burst        = 1000
)

var beside, armed atomic.Int64

func compute(span time.Duration) {
	for start := time.Now(); time.Since(start) < span; {
	}
}

// Latencies in buckets of at most 1/32 of their value.
type histogram [64 * fine]atomic.Int64

func (h *histogram) add(latency time.Duration) {
	ns := uint64(max(latency, 0))
	at := ns
	if ns >= fine {
		shift := uint64(58 - bits.LeadingZeros64(ns))
		at = (shift+1)*fine + ns>>shift - fine
	}
	h[at].Add(1)
}

func (h *histogram) total() (all int64) {
	for i := range h {
		all += h[i].Load()
	}
	return all
}

func (h *histogram) percentileUs(share float64) float64 {
	due, below := float64(h.total())*share, int64(0)
	for i := range h {
		if below += h[i].Load(); float64(below) >= due {
			ns := uint64(i)
			if i >= fine {
				ns = uint64(i%fine+fine) << (i/fine - 1)
			}
			return float64(ns) / 1e3
		}
	}
	return 0
}

// One after the other, without a pause: each ends, and has started the next.
func hog(span time.Duration) {
	compute(span)
	beside.Add(1)
	go hog(span)
}

func hogThatYields(span time.Duration) {
	for {
		compute(span)
		beside.Add(1)
		runtime.Gosched()
	}
}

// block is in the kernel, as in the others: time.Sleep would suspend the goroutine.
func block(span time.Duration) {
	for {
		t := syscall.NsecToTimespec(span.Nanoseconds())
		if err := syscall.Nanosleep(&t, nil); err != syscall.EINTR {
			check(err)
		}
		beside.Add(1)
		runtime.Gosched()
	}
}

func storm() {
	for {
		var all sync.WaitGroup
		all.Add(burst)
		for i := 0; i < burst; i++ {
			go func() {
				beside.Add(1)
				all.Done()
			}()
		}
		all.Wait()
	}
}

func fireAgain(first time.Time, period time.Duration) {
	armed.Add(1)
	for time.Sleep(time.Until(first)); ; time.Sleep(period) {
		beside.Add(1)
	}
}

func serve(a args, begin func()) {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", a.get("port", 9000)))
	check(err)
	begin()
	for {
		connection, err := listener.Accept() // with TCP_NODELAY, Go's default
		check(err)
		go func() {
			defer connection.Close()
			request := make([]byte, requestBytes)
			for {
				if _, err := io.ReadFull(connection, request); err != nil {
					return // it has gone
				}
				binary.NativeEndian.PutUint64(request, uint64(beside.Load()))
				if _, err := connection.Write(request); err != nil {
					return
				}
			}
		}()
	}
}

func tailsHogs(a args) {
	serve(a, func() {
		span, one := time.Duration(a.get("us", 1000))*time.Microsecond, hog
		if a.get("yields", 0) != 0 {
			one = hogThatYields
		}
		for i := 0; i < a.get("threads", 2); i++ {
			go one(span)
		}
	})
}

func tailsBlocked(a args) {
	serve(a, func() { go block(time.Duration(a.get("ms", 1000)) * time.Millisecond) })
}

func tailsStorm(a args) {
	serve(a, func() { go storm() })
}

func tailsTimers(a args) {
	n, period := a.get("n", 1000000), time.Duration(a.get("ms", 60000))*time.Millisecond
	start := time.Now()
	for i := 0; i < n; i++ {
		first := time.Duration(float64(period) * float64(i+1) / float64(n))
		go fireAgain(start.Add(first), period)
	}
	for armed.Load() < int64(n) {
		time.Sleep(time.Millisecond)
	}
	serve(a, func() {})
}

func report(name string, ops int64, start time.Time, cpu float64, h *histogram) {
	seconds := time.Since(start).Seconds()
	fmt.Printf(`{"peer":"go","workload":"%s","ops":%d,"seconds":%.6f,"ns_per_op":%.2f,"cpu_s":%.6f,`+
		`"p50_us":%.3f,"p99_us":%.3f,"p999_us":%.3f,"max_us":%.3f,"samples":%d}`+"\n",
		name, ops, seconds, seconds*1e9/float64(ops), cpuSeconds(syscall.RUSAGE_SELF)-cpu,
		h.percentileUs(.5), h.percentileUs(.99), h.percentileUs(.999), h.percentileUs(1), h.total())
}

func tailsPair(a args) {
	var gaps histogram
	var over atomic.Bool
	var all sync.WaitGroup
	ping, pong, rounds := make(chan int64), make(chan int64), int64(0)
	cpu, start, span := cpuSeconds(syscall.RUSAGE_SELF), time.Now(), time.Duration(a.get("ms", 2000))*time.Millisecond
	all.Add(3)
	go func() {
		defer all.Done()
		for v := range ping {
			pong <- v
		}
	}()
	go func() {
		defer all.Done()
		for last := time.Now(); !over.Load(); {
			runtime.Gosched()
			now := time.Now()
			gaps.add(now.Sub(last))
			last = now
		}
	}()
	go func() {
		defer all.Done()
		for ; time.Since(start) < span; rounds++ {
			ping <- rounds
			if <-pong != rounds {
				fmt.Fprintln(os.Stderr, "go: wrong result")
				os.Exit(1)
			}
		}
		close(ping)
		over.Store(true)
	}()
	all.Wait()
	report("tails_pair", rounds, start, cpu, &gaps)
}

// socketPair is two ends of a stream, which the poller knows.
func socketPair() (near, far net.Conn) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	check(err)
	ends := [2]net.Conn{}
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socket")
		ends[i], err = net.FileConn(file)
		check(err)
		file.Close()
	}
	return ends[0], ends[1]
}

func tailsReady(a args) {
	var late histogram
	var reads atomic.Int64
	var all sync.WaitGroup
	cpu, start, tick := cpuSeconds(syscall.RUSAGE_SELF), time.Now(), time.Millisecond
	end := start.Add(time.Duration(a.get("ms", 2000)) * time.Millisecond)
	for i := 0; i < a.get("threads", 2); i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			near, far := socketPair()
			for buffer := make([]byte, requestBytes); time.Now().Before(end); reads.Add(1) {
				_, err := near.Write(buffer)
				check(err)
				_, err = io.ReadFull(far, buffer)
				check(err)
			}
		}()
	}
	for i := 0; i < a.get("timers", 16); i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for due := start.Add(tick); due.Before(end); due = due.Add(tick) {
				time.Sleep(time.Until(due))
				late.add(time.Since(due))
			}
		}()
	}
	all.Wait()
	report("tails_ready", reads.Load(), start, cpu, &late)
}
