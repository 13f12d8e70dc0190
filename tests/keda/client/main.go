// KEDA's own scalers, as KEDA's operator uses them, driven by lines of JSON: each names a scaler, by what it is made at its first use, and
// is answered by a line with what KEDA would see.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/kedacore/keda/v2/pkg/scalers"
	"github.com/kedacore/keda/v2/pkg/scalers/scalersconfig"
)

// How long KEDA is given for an answer.
const patience = 20 * time.Second

type request struct {
	ID       string            `json:"id"`
	Type     string            `json:"type"`
	Metadata map[string]string `json:"metadata"`
	Auth     map[string]string `json:"auth"`
}

type answer struct {
	// Names as in an HPA, and targets per replica in thousandths.
	Name   string `json:"name"`
	Target int64  `json:"target"`
	// In thousandths.
	Value  int64  `json:"value"`
	Active bool   `json:"active"`
	Error  string `json:"error"`
	// How often `true` and `false` were pushed so far.
	Pushed [2]int `json:"pushed"`
}

type running struct {
	scaler scalers.Scaler
	lock   sync.Mutex
	pushed [2]int
}

func main() {
	all := map[string]*running{}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var asked request
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		written, _ := json.Marshal(respond(all, asked))
		fmt.Println(string(written))
	}
}

func respond(all map[string]*running, asked request) answer {
	known, found := all[asked.ID]
	if !found {
		made, err := start(asked)
		if err != nil {
			return answer{Error: err.Error()}
		}
		all[asked.ID], known = made, made
	}
	return known.ask()
}

func start(asked request) (*running, error) {
	config := &scalersconfig.ScalerConfig{
		ScalableObjectName:      "consumer",
		ScalableObjectNamespace: "shop",
		ScalableObjectType:      "ScaledObject",
		TriggerType:             asked.Type,
		TriggerMetadata:         asked.Metadata,
		AuthParams:              asked.Auth,
		TriggerUniqueKey:        asked.ID,
	}
	this := &running{}
	var err error
	switch asked.Type {
	case "external":
		this.scaler, err = scalers.NewExternalScaler(config)
	case "external-push":
		var push scalers.PushScaler
		if push, err = scalers.NewExternalPushScaler(config); err == nil {
			this.scaler = push
			this.listen(push)
		}
	case "aws-dynamodb-streams":
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		this.scaler, err = scalers.NewAwsDynamoDBStreamsScaler(ctx, config)
	default:
		err = fmt.Errorf("no such type: %s", asked.Type)
	}
	return this, err
}

// As the operator does for the life of a ScaledObject.
func (r *running) listen(push scalers.PushScaler) {
	active := make(chan bool)
	go push.Run(context.Background(), active)
	go func() {
		for isActive := range active {
			r.lock.Lock()
			if isActive {
				r.pushed[0]++
			} else {
				r.pushed[1]++
			}
			r.lock.Unlock()
		}
	}()
}

// As one poll does: the specification, then value and activity by its name.
func (r *running) ask() answer {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r.lock.Lock()
	said := answer{Pushed: r.pushed}
	r.lock.Unlock()
	specs := r.scaler.GetMetricSpecForScaling(ctx)
	if len(specs) != 1 {
		said.Error = fmt.Sprintf("%d specifications", len(specs))
		return said
	}
	metric := specs[0].External
	said.Name = metric.Metric.Name
	if metric.Target.AverageValue != nil {
		said.Target = metric.Target.AverageValue.MilliValue()
	}
	values, active, err := r.scaler.GetMetricsAndActivity(ctx, metric.Metric.Name)
	if err != nil {
		said.Error = err.Error()
		return said
	}
	said.Active = active
	for _, value := range values {
		said.Value += value.Value.MilliValue()
	}
	return said
}
