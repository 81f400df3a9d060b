package main

import (
	"encoding/json"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
)

// sample is one record. A field that is null or absent stays nil and is written as unset, never as a tombstone.
type sample struct {
	Host                 string             `json:"host"`
	Timestamp            time.Time          `json:"timestamp"`
	ID                   *string            `json:"id"`
	CPUUsage             *float64           `json:"cpu_usage"`
	MemoryUsage          *float64           `json:"memory_usage"`
	DiskUsage            *float64           `json:"disk_usage"`
	NetworkIORecv        *float64           `json:"network_io_recv"`
	NetworkIOSent        *float64           `json:"network_io_sent"`
	Labels               map[string]string  `json:"labels"`
	Up                   *bool              `json:"up"`
	Outcome              *string            `json:"outcome"`
	Error                *string            `json:"error"`
	Collector            *string            `json:"collector"`
	CollectSeconds       *float64           `json:"collect_seconds"`
	ClockSkew            *float64           `json:"clock_skew"`
	BootID               *string            `json:"boot_id"`
	Uptime               *float64           `json:"uptime"`
	WindowSeconds        *float64           `json:"window_seconds"`
	CPUUser              *float64           `json:"cpu_user"`
	CPUSystem            *float64           `json:"cpu_system"`
	CPUIowait            *float64           `json:"cpu_iowait"`
	CPUSteal             *float64           `json:"cpu_steal"`
	CPUCount             *int32             `json:"cpu_count"`
	CPUCoreUsage         []float64          `json:"cpu_core_usage"`
	Load1m               *float64           `json:"load_1m"`
	Load5m               *float64           `json:"load_5m"`
	Load15m              *float64           `json:"load_15m"`
	MemoryTotal          *int64             `json:"memory_total"`
	MemoryUsed           *int64             `json:"memory_used"`
	MemoryAvailable      *int64             `json:"memory_available"`
	SwapTotal            *int64             `json:"swap_total"`
	SwapUsed             *int64             `json:"swap_used"`
	SwapUsage            *float64           `json:"swap_usage"`
	SwapIn               *float64           `json:"swap_in"`
	SwapOut              *float64           `json:"swap_out"`
	DiskTotal            *int64             `json:"disk_total"`
	DiskUsed             *int64             `json:"disk_used"`
	DiskFree             *int64             `json:"disk_free"`
	FilesystemUsage      map[string]float64 `json:"filesystem_usage"`
	FilesystemFree       map[string]float64 `json:"filesystem_free"`
	InodeUsage           map[string]float64 `json:"inode_usage"`
	DiskIORead           *float64           `json:"disk_io_read"`
	DiskIOWrite          *float64           `json:"disk_io_write"`
	DiskIOBusy           *float64           `json:"disk_io_busy"`
	DeviceRead           map[string]float64 `json:"device_read"`
	DeviceWrite          map[string]float64 `json:"device_write"`
	DeviceBusy           map[string]float64 `json:"device_busy"`
	NetworkErrors        *float64           `json:"network_errors"`
	NetworkDrops         *float64           `json:"network_drops"`
	InterfaceRecv        map[string]float64 `json:"interface_recv"`
	InterfaceSent        map[string]float64 `json:"interface_sent"`
	ProcessCount         *int32             `json:"process_count"`
	ProcessRunning       *int32             `json:"process_running"`
	ProcessBlocked       *int32             `json:"process_blocked"`
	OpenFiles            *int64             `json:"open_files"`
	TCPConnections       *int32             `json:"tcp_connections"`
	PressureCPU          *float64           `json:"pressure_cpu"`
	PressureMemory       *float64           `json:"pressure_memory"`
	PressureIO           *float64           `json:"pressure_io"`
	ContainerCPUUsage    *float64           `json:"container_cpu_usage"`
	ContainerMemoryUsage *float64           `json:"container_memory_usage"`
	ContainerMemoryLimit *int64             `json:"container_memory_limit"`
	CPUBusySeconds       *float64           `json:"cpu_busy_seconds"`
	CPUTotalSeconds      *float64           `json:"cpu_total_seconds"`
	NetworkRecvBytes     *int64             `json:"network_recv_bytes"`
	NetworkSentBytes     *int64             `json:"network_sent_bytes"`
	DiskReadBytes        *int64             `json:"disk_read_bytes"`
	DiskWriteBytes       *int64             `json:"disk_write_bytes"`
}

type column struct {
	name  string
	value func(*sample) any
}

// narrow are the columns of the system's description, beside the key.
var narrow = []column{
	{"id", func(s *sample) any { return scalar(s.ID) }},
	{"cpu_usage", func(s *sample) any { return scalar(s.CPUUsage) }},
	{"memory_usage", func(s *sample) any { return scalar(s.MemoryUsage) }},
	{"disk_usage", func(s *sample) any { return scalar(s.DiskUsage) }},
	{"network_io_recv", func(s *sample) any { return scalar(s.NetworkIORecv) }},
	{"network_io_sent", func(s *sample) any { return scalar(s.NetworkIOSent) }},
}

// wide are the further columns of a full sample.
var wide = []column{
	{"labels", func(s *sample) any { return mapping(s.Labels) }},
	{"up", func(s *sample) any { return scalar(s.Up) }},
	{"outcome", func(s *sample) any { return scalar(s.Outcome) }},
	{"error", func(s *sample) any { return scalar(s.Error) }},
	{"collector", func(s *sample) any { return scalar(s.Collector) }},
	{"collect_seconds", func(s *sample) any { return scalar(s.CollectSeconds) }},
	{"clock_skew", func(s *sample) any { return scalar(s.ClockSkew) }},
	{"boot_id", func(s *sample) any { return scalar(s.BootID) }},
	{"uptime", func(s *sample) any { return scalar(s.Uptime) }},
	{"window_seconds", func(s *sample) any { return scalar(s.WindowSeconds) }},
	{"cpu_user", func(s *sample) any { return scalar(s.CPUUser) }},
	{"cpu_system", func(s *sample) any { return scalar(s.CPUSystem) }},
	{"cpu_iowait", func(s *sample) any { return scalar(s.CPUIowait) }},
	{"cpu_steal", func(s *sample) any { return scalar(s.CPUSteal) }},
	{"cpu_count", func(s *sample) any { return scalar(s.CPUCount) }},
	{"cpu_core_usage", func(s *sample) any { return list(s.CPUCoreUsage) }},
	{"load_1m", func(s *sample) any { return scalar(s.Load1m) }},
	{"load_5m", func(s *sample) any { return scalar(s.Load5m) }},
	{"load_15m", func(s *sample) any { return scalar(s.Load15m) }},
	{"memory_total", func(s *sample) any { return scalar(s.MemoryTotal) }},
	{"memory_used", func(s *sample) any { return scalar(s.MemoryUsed) }},
	{"memory_available", func(s *sample) any { return scalar(s.MemoryAvailable) }},
	{"swap_total", func(s *sample) any { return scalar(s.SwapTotal) }},
	{"swap_used", func(s *sample) any { return scalar(s.SwapUsed) }},
	{"swap_usage", func(s *sample) any { return scalar(s.SwapUsage) }},
	{"swap_in", func(s *sample) any { return scalar(s.SwapIn) }},
	{"swap_out", func(s *sample) any { return scalar(s.SwapOut) }},
	{"disk_total", func(s *sample) any { return scalar(s.DiskTotal) }},
	{"disk_used", func(s *sample) any { return scalar(s.DiskUsed) }},
	{"disk_free", func(s *sample) any { return scalar(s.DiskFree) }},
	{"filesystem_usage", func(s *sample) any { return mapping(s.FilesystemUsage) }},
	{"filesystem_free", func(s *sample) any { return mapping(s.FilesystemFree) }},
	{"inode_usage", func(s *sample) any { return mapping(s.InodeUsage) }},
	{"disk_io_read", func(s *sample) any { return scalar(s.DiskIORead) }},
	{"disk_io_write", func(s *sample) any { return scalar(s.DiskIOWrite) }},
	{"disk_io_busy", func(s *sample) any { return scalar(s.DiskIOBusy) }},
	{"device_read", func(s *sample) any { return mapping(s.DeviceRead) }},
	{"device_write", func(s *sample) any { return mapping(s.DeviceWrite) }},
	{"device_busy", func(s *sample) any { return mapping(s.DeviceBusy) }},
	{"network_errors", func(s *sample) any { return scalar(s.NetworkErrors) }},
	{"network_drops", func(s *sample) any { return scalar(s.NetworkDrops) }},
	{"interface_recv", func(s *sample) any { return mapping(s.InterfaceRecv) }},
	{"interface_sent", func(s *sample) any { return mapping(s.InterfaceSent) }},
	{"process_count", func(s *sample) any { return scalar(s.ProcessCount) }},
	{"process_running", func(s *sample) any { return scalar(s.ProcessRunning) }},
	{"process_blocked", func(s *sample) any { return scalar(s.ProcessBlocked) }},
	{"open_files", func(s *sample) any { return scalar(s.OpenFiles) }},
	{"tcp_connections", func(s *sample) any { return scalar(s.TCPConnections) }},
	{"pressure_cpu", func(s *sample) any { return scalar(s.PressureCPU) }},
	{"pressure_memory", func(s *sample) any { return scalar(s.PressureMemory) }},
	{"pressure_io", func(s *sample) any { return scalar(s.PressureIO) }},
	{"container_cpu_usage", func(s *sample) any { return scalar(s.ContainerCPUUsage) }},
	{"container_memory_usage", func(s *sample) any { return scalar(s.ContainerMemoryUsage) }},
	{"container_memory_limit", func(s *sample) any { return scalar(s.ContainerMemoryLimit) }},
	{"cpu_busy_seconds", func(s *sample) any { return scalar(s.CPUBusySeconds) }},
	{"cpu_total_seconds", func(s *sample) any { return scalar(s.CPUTotalSeconds) }},
	{"network_recv_bytes", func(s *sample) any { return scalar(s.NetworkRecvBytes) }},
	{"network_sent_bytes", func(s *sample) any { return scalar(s.NetworkSentBytes) }},
	{"disk_read_bytes", func(s *sample) any { return scalar(s.DiskReadBytes) }},
	{"disk_write_bytes", func(s *sample) any { return scalar(s.DiskWriteBytes) }},
}

// row is a sample as its INSERT binds it: host, day, timestamp, then the columns.
type row struct {
	host   string
	day    time.Time
	values []any
}

func decode(record []byte, columns []column) (row, error) {
	var s sample
	if err := json.Unmarshal(record, &s); err != nil {
		return row{}, err
	}
	day := s.Timestamp.UTC().Truncate(24 * time.Hour)
	values := make([]any, 0, 3+len(columns))
	values = append(values, s.Host, day, s.Timestamp)
	for _, c := range columns {
		values = append(values, c.value(&s))
	}
	return row{s.Host, day, values}, nil
}

func scalar[T any](v *T) any {
	if v == nil {
		return gocql.UnsetValue
	}
	return *v
}

func list[T any](v []T) any {
	if v == nil {
		return gocql.UnsetValue
	}
	return v
}

func mapping[V any](v map[string]V) any {
	if v == nil {
		return gocql.UnsetValue
	}
	return v
}
