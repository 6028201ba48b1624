package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// openTrace makes a provider that writes every span to a file as JSON, one
// object after the other, and a function that finishes the file. Without a path
// nothing is traced.
func openTrace(path string) (trace.TracerProvider, func(context.Context) error, error) {
	if path == "" {
		return noop.NewTracerProvider(), func(context.Context) error { return nil }, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, nil, fmt.Errorf("open the trace: %w", err)
	}
	exporter, err := stdouttrace.New(stdouttrace.WithWriter(f))
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open the trace: %w", err), f.Close())
	}
	// The queue holds the spans of a large run: a trace with holes misleads.
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter, sdktrace.WithBlocking()))
	return provider, func(ctx context.Context) error {
		return errors.Join(provider.Shutdown(ctx), f.Close())
	}, nil
}
