package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// usage is what a run took, as the benchmark reads it.
type usage struct {
	Rows       int     `json:"rows"`
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpu_seconds"`
	PeakMB     float64 `json:"peak_mb"`
}

type meter struct {
	began time.Time
	cpu   time.Duration
}

func startMeter() *meter { return &meter{time.Now(), cpuTime()} }

func (m *meter) stop(rows int) (*usage, error) {
	taken := &usage{Rows: rows, Seconds: time.Since(m.began).Seconds(), CPUSeconds: (cpuTime() - m.cpu).Seconds()}
	var err error
	taken.PeakMB, err = peakMB()
	return taken, err
}

func cpuTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err) // only a wrong argument can do that
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// peakMB reads VmHWM: the maximum of getrusage would count the memory of the process that started this one.
func peakMB() (float64, error) {
	status, err := os.Open("/proc/self/status")
	if err != nil {
		return 0, err
	}
	defer status.Close()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		if text, found := strings.CutPrefix(lines.Text(), "VmHWM:"); found {
			var kib float64
			_, err := fmt.Sscanf(text, "%f kB", &kib)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("no VmHWM in /proc/self/status")
}
