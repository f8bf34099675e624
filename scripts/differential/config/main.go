// Reads configurations from standard input (each preceded by a line with its length in bytes) and answers one line each:
// "ok" with what the jobs come to, or "bad" with Prometheus' own words.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/config"
	_ "github.com/prometheus/prometheus/discovery/dns"
	_ "github.com/prometheus/prometheus/discovery/file"
	_ "github.com/prometheus/prometheus/discovery/http"
)

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		length, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			panic(err)
		}
		text := make([]byte, length)
		if _, err := io.ReadFull(in, text); err != nil {
			panic(err)
		}
		fmt.Fprintln(out, judge(string(text)))
		out.Flush()
	}
}

func judge(text string) (answer string) {
	defer func() {
		if r := recover(); r != nil {
			answer = fmt.Sprintf("panic\t%v", r)
		}
	}()
	cfg, err := config.Load(text, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		return "bad\t" + strings.ReplaceAll(err.Error(), "\n", " | ")
	}
	type job struct {
		Name                                            string
		Interval, Timeout                               int64
		Path, Scheme                                    string
		HonorLabels, HonorTimestamps, Compression       bool
		Redirects                                       bool
		Samples, Targets, Labels, NameLength, ValueLength uint
		Body                                            int64
		Relabel, MetricRelabel                          int
	}
	jobs := []job{}
	for _, c := range cfg.ScrapeConfigs {
		jobs = append(jobs, job{
			c.JobName, int64(c.ScrapeInterval) / 1e6, int64(c.ScrapeTimeout) / 1e6, c.MetricsPath, c.Scheme,
			c.HonorLabels, c.HonorTimestamps, c.EnableCompression, c.HTTPClientConfig.FollowRedirects,
			c.SampleLimit, c.TargetLimit, c.LabelLimit, c.LabelNameLengthLimit, c.LabelValueLengthLimit,
			max(0, int64(c.BodySizeLimit)), len(c.RelabelConfigs), len(c.MetricRelabelConfigs),
		})
	}
	summary, _ := json.Marshal(jobs)
	return "ok\t" + string(summary)
}
