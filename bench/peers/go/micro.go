// What Go has for the lines of micro_sync and micro_chan of the same names, by one goroutine, alone: bench/micro.py.
package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"
)

// A semaphore of the standard library is a channel with as many places as there are permits.
func semRounds(n int) {
	permits := make(chan struct{}, 1)
	for i := 0; i < n; i++ {
		permits <- struct{}{}
		<-permits
	}
}

func rwlockReadRounds(n int) {
	var lock sync.RWMutex
	for i := 0; i < n; i++ {
		lock.RLock()
		lock.RUnlock()
	}
}

func rwlockWriteRounds(n int) {
	var lock sync.RWMutex
	for i := 0; i < n; i++ {
		lock.Lock()
		lock.Unlock()
	}
}

// A select of four receives that are all ready, and the send that makes the one ready again.
func selectRounds(n int) {
	var c [4]chan int
	for i := range c {
		c[i] = make(chan int, 1)
		c[i] <- 0
	}
	var taken [4]int
	for i := 0; i < n; i++ {
		select {
		case v := <-c[0]:
			taken[0]++
			c[0] <- v
		case v := <-c[1]:
			taken[1]++
			c[1] <- v
		case v := <-c[2]:
			taken[2]++
			c[2] <- v
		case v := <-c[3]:
			taken[3]++
			c[3] <- v
		}
	}
	if taken[0]+taken[1]+taken[2]+taken[3] != n {
		fmt.Fprintln(os.Stderr, "go: not all were taken")
		os.Exit(1)
	}
}

// micro prints a line for each, as micro_* do; their repetitions alternate.
func micro(a args) {
	ops, reps, workers := a.get("ops", 2000000), a.get("reps", 7), a.get("threads", 1)
	if ops < 1 || reps < 1 {
		fmt.Fprintln(os.Stderr, "go: ops and reps are 1 or more")
		os.Exit(2)
	}
	runtime.GOMAXPROCS(workers)
	benches := []struct {
		name   string
		rounds func(int)
	}{{"sync_sem", semRounds}, {"sync_rwlock_read", rwlockReadRounds}, {"sync_rwlock_write", rwlockWriteRounds},
		{"select_ready_4", selectRounds}}
	ns := make([][]float64, len(benches))
	for i := 0; i < reps; i++ {
		for b, bench := range benches {
			start := time.Now()
			bench.rounds(ops)
			ns[b] = append(ns[b], float64(time.Since(start).Nanoseconds())/float64(ops))
		}
	}
	for b, bench := range benches {
		slices.Sort(ns[b])
		fmt.Printf(`{"bench":"%s","peer":"go","workers":%d,"ops":%d,"reps":%d,"ns_min":%.2f,"ns_med":%.2f}`+"\n", bench.name, workers,
			ops, reps, ns[b][0], (ns[b][(reps-1)/2]+ns[b][reps/2])/2)
	}
}
