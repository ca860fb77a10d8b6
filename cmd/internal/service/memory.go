package service

import (
	"context"
	"errors"
	"math"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/memory"
)

const (
	memoryPoll = time.Second
	// memoryFull is the share of the limit at which no connection is admitted any
	// more, memoryFree the one at which that ends.
	memoryFull, memoryFree = 0.90, 0.85
	// heapShare is the part of the limit that the Go runtime may take before it
	// collects garbage harder. The rest is for the database of the bundled broker
	// and for what the kernel keeps of the sockets.
	heapShare = 0.80
)

// memoryGuard stops the service from taking on connections before the kernel stops
// the process, and with it every session. It is asked for every connection, so it
// remembers what the last look, at most a second ago, has shown.
type memoryGuard struct {
	read    func(config.Memory) (memory.Usage, bool)
	setHeap func(limit int64) // nil if the operator has set one

	usage atomic.Pointer[memory.Usage] // nil without a limit
	full  atomic.Bool
}

// readMemory returns what is taken of the limit that the config wants.
func readMemory(m config.Memory) (memory.Usage, bool) {
	switch {
	case m.Auto:
		return memory.Groups{Root: os.DirFS("/")}.Read()
	case m.Size > 0:
		return memory.Usage{Used: memory.Own(), Limit: m.Size}, true
	}
	return memory.Usage{}, false
}

// HeapLimiter returns what sets the runtime's own limit, nil if GOMEMLIMIT has.
func HeapLimiter() func(int64) {
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return nil
	}
	return func(limit int64) { debug.SetMemoryLimit(limit) }
}

var errMemoryFull = errors.New("the memory that the process may take is nearly used up")

// overload is a proxy.Policy's Overload.
func (g *memoryGuard) overload() error {
	if g.full.Load() {
		return errMemoryFull
	}
	return nil
}

// bundledShare returns how much the bundled broker may keep for devices, in bytes: a
// quarter of the limit, 0 for no limit.
func (g *memoryGuard) bundledShare() int64 { return limitOf(g.usage.Load()) / 4 }

// look takes down what is taken now.
func (g *memoryGuard) look(m config.Memory, log *zap.Logger) {
	u, ok := g.read(m)
	before := g.usage.Load()
	if !ok {
		g.usage.Store(nil)
		g.full.Store(false)
	} else {
		g.usage.Store(&u)
		g.judge(u, log)
	}
	if g.setHeap != nil && limitOf(before) != limitOf(g.usage.Load()) {
		g.setHeap(heapLimit(g.usage.Load()))
	}
}

func limitOf(u *memory.Usage) int64 {
	if u == nil {
		return 0
	}
	return u.Limit
}

func heapLimit(u *memory.Usage) int64 {
	if u == nil {
		return math.MaxInt64
	}
	return int64(float64(u.Limit) * heapShare)
}

// judge decides whether there is room, and tells when that changes.
func (g *memoryGuard) judge(u memory.Usage, log *zap.Logger) {
	switch share := u.Share(); {
	case share >= memoryFull && g.full.CompareAndSwap(false, true):
		log.Error("memory is nearly used up: new connections are refused, sessions go on",
			zap.Int64("used", u.Used), zap.Int64("limit", u.Limit))
	case share <= memoryFree && g.full.CompareAndSwap(true, false):
		log.Info("there is memory again: new connections are let in", zap.Int64("used", u.Used), zap.Int64("limit", u.Limit))
	}
}

// watchMemory looks every second until ctx is done.
func (s *Service) watchMemory(ctx context.Context) {
	tick := time.NewTicker(memoryPoll)
	defer tick.Stop()
	garbage := newCollector()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			garbage.tune()
			s.memory.look(s.current.Load().config.Limits.Memory, s.Log.Logger)
		}
	}
}

// register exports what the guard knows; without a limit the numbers are 0.
func (g *memoryGuard) register(r prometheus.Registerer) {
	gauge := func(name, help string, value func(memory.Usage) float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "mqtt_auth_proxy_memory_" + name, Help: help}, func() float64 {
			if u := g.usage.Load(); u != nil {
				return value(*u)
			}
			return 0
		}))
	}
	gauge("used_bytes", "What is taken of the memory limit.", func(u memory.Usage) float64 { return float64(u.Used) })
	gauge("limit_bytes", "The memory that the process may take, 0 for no limit.", func(u memory.Usage) float64 { return float64(u.Limit) })
	gauge("full", "1 while new connections are refused for want of memory.", func(memory.Usage) float64 {
		if g.full.Load() {
			return 1
		}
		return 0
	})
}
