// Prints what Knative's own code makes of a few IntegrationSources: a JSON list with, for each, the container's
// environment after the SinkBinding was injected, its probes, mounts and service account. A value that comes from a
// Secret is printed as {"secret": name, "key": key}.
//
// Arguments: the sink's URL, and the URL that takes DynamoDB's place where the user overrides the endpoint.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	kubefake "k8s.io/client-go/kubernetes/fake"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	integration "knative.dev/eventing/pkg/apis/common/integration/v1alpha1"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	"knative.dev/eventing/pkg/apis/sources/v1alpha1"
	containersource "knative.dev/eventing/pkg/reconciler/containersource/resources"
	"knative.dev/eventing/pkg/reconciler/integration/source/resources"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/client/injection/ducks/duck/v1/addressable"
	"knative.dev/pkg/injection/clients/dynamicclient"
	"knative.dev/pkg/resolver"
	"knative.dev/pkg/tracker"
)

// A user's wish, and what else the cluster has to say about it.
type wish struct {
	name     string
	streams  integration.AWSDDBStreams
	auth     *integration.Auth
	audience string
	override map[string]string
}

type printed struct {
	Name           string                   `json:"name"`
	Environment    map[string]any           `json:"environment"`
	Probes         map[string]*corev1.Probe `json:"probes"`
	Mounts         []string                 `json:"mounts"`
	ServiceAccount string                   `json:"service_account"`
}

func wishes(endpoint string) []wish {
	secret := &integration.Auth{Secret: &integration.Secret{Ref: &integration.SecretReference{Name: "aws-keys"}}}
	account := &integration.Auth{ServiceAccountName: "stream-reader"}
	overridden := integration.AWSCommon{Region: "eu-west-1", OverrideEndpoint: true, URIEndpointOverride: endpoint}
	plain := integration.AWSCommon{Region: "eu-west-1"}
	return []wish{
		{name: "defaults", streams: integration.AWSDDBStreams{AWSCommon: plain, Table: "Defaults"}},
		// What the defaults of the CustomResourceDefinition make of the same.
		{name: "defaulted", streams: integration.AWSDDBStreams{
			AWSCommon: plain, Table: "Defaulted", StreamIteratorType: "FROM_LATEST", Delay: 500}},
		{name: "from-start", streams: integration.AWSDDBStreams{
			AWSCommon: plain, Table: "FromStart", StreamIteratorType: "FROM_START", Delay: 100}},
		{name: "endpoint", streams: integration.AWSDDBStreams{AWSCommon: overridden, Table: "Endpoint"}},
		{name: "secret", auth: secret, streams: integration.AWSDDBStreams{AWSCommon: overridden, Table: "Secret"}},
		{name: "service-account", auth: account,
			streams: integration.AWSDDBStreams{AWSCommon: plain, Table: "ServiceAccount"}},
		{name: "oidc", audience: "https://sink.example", streams: integration.AWSDDBStreams{AWSCommon: plain, Table: "Oidc"}},
		{name: "overrides", override: map[string]string{"team": "blue"},
			streams: integration.AWSDDBStreams{AWSCommon: plain, Table: "Overrides"}},
	}
}

// As the controllers do it: IntegrationSource, ContainerSource, Deployment and SinkBinding, one after the other.
func (w wish) deployment(ctx context.Context, sink *apis.URL) *appsv1.Deployment {
	source := &v1alpha1.IntegrationSource{
		ObjectMeta: metav1.ObjectMeta{Name: w.name, Namespace: "shop"},
		Spec: v1alpha1.IntegrationSourceSpec{
			SourceSpec: duckv1.SourceSpec{Sink: duckv1.Destination{URI: sink}},
			Aws:        &v1alpha1.Aws{DDBStreams: &w.streams, Auth: w.auth},
		},
	}
	if w.audience != "" {
		source.Spec.Sink.Audience = &w.audience
	}
	if w.override != nil {
		source.Spec.CloudEventOverrides = &duckv1.CloudEventOverrides{Extensions: w.override}
	}
	source.SetDefaults(ctx)
	container := resources.NewContainerSource(source, w.audience != "")
	deployment := containersource.MakeDeployment(container)
	binding := containersource.MakeSinkBinding(container)
	if w.audience != "" {
		token := "token-of-" + w.name
		binding.Status.OIDCTokenSecretName = &token
	}
	pod := &duckv1.WithPod{Spec: duckv1.WithPodSpec{Template: duckv1.PodSpecable(deployment.Spec.Template)}}
	binding.Do(ctx, pod)
	deployment.Spec.Template = corev1.PodTemplateSpec(pod.Spec.Template)
	return deployment
}

func (w wish) print(ctx context.Context, sink *apis.URL) printed {
	spec := w.deployment(ctx, sink).Spec.Template.Spec
	container := spec.Containers[0]
	environment := map[string]any{}
	for _, variable := range container.Env {
		environment[variable.Name] = variable.Value
		if from := variable.ValueFrom; from != nil {
			environment[variable.Name] = map[string]string{"secret": from.SecretKeyRef.Name, "key": from.SecretKeyRef.Key}
		}
	}
	probes := map[string]*corev1.Probe{
		"startup": container.StartupProbe, "readiness": container.ReadinessProbe, "liveness": container.LivenessProbe,
	}
	mounts := []string{}
	for _, mount := range container.VolumeMounts {
		mounts = append(mounts, mount.MountPath)
	}
	return printed{w.name, environment, probes, mounts, spec.ServiceAccountName}
}

// What SinkBinding.Do asks of the cluster: nothing, the sink is a URL and there are no bundles of certificates.
func cluster() context.Context {
	dynamic := dynamicfake.NewSimpleDynamicClient(runtime.NewScheme())
	ctx := context.WithValue(context.Background(), dynamicclient.Key{}, dynamic)
	ctx = addressable.WithDuck(ctx)
	none := tracker.New(func(types.NamespacedName) {}, 0)
	ctx = sourcesv1.WithURIResolver(ctx, resolver.NewURIResolverFromTracker(ctx, none))
	ctx = sourcesv1.WithKubeClient(ctx, kubefake.NewSimpleClientset())
	byNamespace := cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}
	bundles := corev1listers.NewConfigMapLister(cache.NewIndexer(cache.MetaNamespaceKeyFunc, byNamespace))
	return sourcesv1.WithTrustBundleConfigMapLister(ctx, bundles)
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: environments SINK-URL ENDPOINT-URL")
	}
	if err := os.Setenv("SYSTEM_NAMESPACE", "knative-eventing"); err != nil {
		log.Fatal(err)
	}
	sink, err := apis.ParseURL(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	ctx, all := cluster(), []printed{}
	for _, wish := range wishes(os.Args[2]) {
		all = append(all, wish.print(ctx, sink))
	}
	if err := json.NewEncoder(os.Stdout).Encode(all); err != nil {
		log.Fatal(err)
	}
}
