"""Breaks the manifests on purpose, each in one way, and expects the check that is there for it to say so.

A check that cannot fail is worse than none.
"""

import pathlib
import shutil
import tempfile

from report import Ignored, Report

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

DEPLOYMENT = "base/deployment.yaml"
SETTINGS = "settings/kustomization.yaml"
# What is broken; the file; its text and what is put there; a word of the failure; the case that shows it; whether it
# must be started to be seen.
BREAKS = [
    ("an unknown field", DEPLOYMENT, "      enableServiceLinks", "      enableServicelinks", "enableServicelinks",
     "overlays/deployment", False),
    ("a key that comes twice", DEPLOYMENT, "  replicas: 1", "  replicas: 1\n  replicas: 2", "render", "overlays/deployment",
     False),
    ("an unknown field of a SinkBinding", "overlays/sinkbinding/sinkbinding.yaml", "  sink:", "  sinks: {}\n  sink:", "sinks",
     "overlays/sinkbinding", False),
    ("an unknown field in a ContainerSource's template", "overlays/containersource/containersource.yaml",
     "          image: adapter-image", "          image: adapter-image\n          imagePolicy: Always", "imagePolicy",
     "overlays/containersource", False),
    ("an unknown field of an AWSDynamoDBSource", "replace/triggermesh/source/aws-dynamodb-source.yaml", "  auth:",
     "  authentication: {}\n  auth:", "authentication", "replace/triggermesh/source", False),
    ("an unknown field of an IntegrationSource", "replace/integration-source/source/integration-source.yaml",
     "      region:", "      awsRegion:", "awsRegion", "replace/integration-source/source", False),
    ("a ServiceMonitor for a port that is not there", "base/service.yaml", "    - name: http", "    - name: web",
     "nothing is scraped", "components/service-monitor", False),
    ("a PodMonitor for a port that is not there", "components/pod-monitor/pod-monitor.yaml", "port: adapter-http", "port: web",
     "nothing is scraped", "components/pod-monitor", False),
    ("a variable of the scaler that is not there", "scaler/kustomization.yaml", "SCALER_RULES=", "SCALER_RULLES=",
     "knows no variable SCALER_RULLES", "scaler", False),
    ("rules of the scaler that are none", "scaler/kustomization.yaml", '"namespaces":["shop"],', "",
     "SCALER_RULES", "scaler", True),
    ("replicas of the scaler without a table", "overlays/scaler-replicas/kustomization.yaml", "CHECKPOINT_STORE=dynamodb:",
     "CHECKPOINT_STORE=file:/", "SCALER_ADVERTISED_ADDRESS", "overlays/scaler-replicas", True),
    ("replicas of the scaler that cannot call each other", "overlays/scaler-replicas/network-policy.yaml", "/spec/egress/-",
     "/spec/ingress/-", "Egress between replicas", "overlays/scaler-replicas", False),
    ("a ScaledObject of the wrong shape", "components/keda-consumer/scaled-object.yaml", "  maxReplicaCount: 10",
     "  maxReplicaCount: ten", "maxReplicaCount", "components/keda-consumer", False),
    ("a ScaledObject on the adapter itself", "components/keda-consumer/scaled-object.yaml",
     "    name: orders-service # the", "    name: dynamodb-streams-adapter # the", "deliver everything",
     "components/keda-consumer", False),
    ("a query for a metric that is not there", "components/keda-consumer/scaled-object.yaml", "in_flight_events", "in_flight",
     "there is no metric", "components/keda-consumer", False),
    ("an unknown variable", SETTINGS, "      - TABLE=", "      - TABEL=x\n      - TABLE=", "no variable TABEL",
     "overlays/deployment", False),
    ("an unknown variable of the AWS SDK", SETTINGS, "      - AWS_REGION=", "      - AWS_REGOIN=x\n      - AWS_REGION=",
     "no variable AWS_REGOIN", "overlays/deployment", False),
    ("a value that the program refuses", SETTINGS, "START_POSITION=latest", "START_POSITION=newest", "START_POSITION",
     "overlays/deployment", True),
    ("no sink", "overlays/deployment/kustomization.yaml", "K_SINK=http://orders-service.default.svc/events",
     "DELIVERY_ORDER=item", "K_SINK is not set", "overlays/deployment", True),
    ("a probe of a path that is not served", DEPLOYMENT, "path: /readyz", "path: /ready", "/ready, which is not served",
     "overlays/deployment", True),
    ("no securityContext", DEPLOYMENT, "            readOnlyRootFilesystem: true\n", "", "readOnlyRootFilesystem",
     "overlays/deployment", False),
    ("capabilities", "components/native-sidecar/init-container.yaml", "              drop: [ALL]", "              add: [SYS_ADMIN]",
     "capabilities", "overlays/native-sidecar", False),
    ("root", DEPLOYMENT, "        runAsNonRoot: true", "        runAsNonRoot: false", "runAsNonRoot", "overlays/deployment",
     False),
    ("no seccomp profile", "components/sidecar/container.yaml",
     "            seccompProfile:\n              type: RuntimeDefault", "            seccompProfile:\n              type: Unconfined",
     "seccompProfile", "overlays/sidecar", False),
    ("a token of the Kubernetes API", DEPLOYMENT, "      automountServiceAccountToken: false\n", "",
     "automountServiceAccountToken", "overlays/deployment", False),
    ("a directory of the node", "components/oidc-token/container.yaml", "          projected:\n            sources:\n",
     "          hostPath: { path: / }\n          projected:\n            sources:\n", "hostPath", "components/oidc-token", False),
    ("a second image", "components/sidecar/container.yaml", "image: adapter-image", "image: dynamodb-streams-adapter:0.0.9",
     "runs dynamodb-streams-adapter:0.0.9", "overlays/sidecar", False),
    ("an image in a second place", DEPLOYMENT, "image: adapter-image", "image: dynamodb-streams-adapter:0.1.0",
     "names the image", "texts", False),
    ("a controller that is not told of the image", "components/image/image-fields.yaml", "path: data/aws-ddb-streams-source",
     "path: data/other", "adapter-image", "replace/integration-source/image", False),
    ("too short a time to end", DEPLOYMENT, "terminationGracePeriodSeconds: 30", "terminationGracePeriodSeconds: 25",
     "killed while it drains", "overlays/deployment", False),
    ("two replicas", DEPLOYMENT, "  replicas: 1", "  replicas: 2", "replicas is not 1", "overlays/deployment", False),
    ("a rolling update", DEPLOYMENT, "    type: Recreate", "    type: RollingUpdate", "strategy", "overlays/sinkbinding",
     False),
    ("a rolling update of a sidecar", "components/sidecar/container.yaml", "maxSurge: 0", "maxSurge: 1", "strategy",
     "overlays/sidecar", False),
    ("a startup probe", DEPLOYMENT, "          livenessProbe:",
     "          startupProbe: { httpGet: { path: /startupz, port: adapter-http } }\n          livenessProbe:", "repairs nothing",
     "overlays/deployment", False),
    ("liveness that asks for AWS", DEPLOYMENT, "path: /livez", "path: /readyz", "restarted", "overlays/deployment", False),
    ("a probe of another port", "components/sidecar/container.yaml", ":8090\"", ":8091\"", "listens at 8091",
     "overlays/sidecar", False),
    ("a sidecar that never lets the application start", "components/native-sidecar/init-container.yaml",
     "          restartPolicy: Always # this makes an init container a sidecar\n", "", "never starts",
     "overlays/native-sidecar", False),
    ("positions on no volume", "components/positions-volume/kustomization.yaml", "file:/var/lib/dynamodb-streams-adapter/",
     "file:/var/lib/elsewhere/", "on no volume", "overlays/deployment", False),
    ("positions that nobody may write", "components/positions-volume/container.yaml",
     "        fsGroup: 65532 # the image runs in this group, which may then write to the volume\n", "", "no fsGroup",
     "overlays/deployment", False),
    ("a volume beside a table of positions", "components/positions-table/container.yaml",
     "        - name: dynamodb-streams-adapter-positions\n          $patch: delete\n",
     "        - name: dynamodb-streams-adapter-positions\n", "binds the pod to a node", "components/positions-table", False),
    ("nobody who waits for a table", "components/positions-table/container.yaml", "    type: RollingUpdate",
     "    type: Recreate", "until the next pod runs", "components/positions-table", False),
    ("a rolling update that first ends the owner", "components/positions-table/container.yaml", "maxUnavailable: 0",
     "maxUnavailable: 1", "until the next pod runs", "components/positions-table", False),
    ("a file of positions under a ContainerSource", "overlays/containersource/kustomization.yaml",
     "      - START_POSITION=trim-horizon", "      - CHECKPOINT_STORE=file:/tmp/x", "one owner", "overlays/containersource",
     False),
    ("settings that a ContainerSource does not find", "overlays/containersource/references.yaml",
     "spec/template/spec/containers/envFrom/configMapRef/name", "spec/other", "which nobody makes",
     "overlays/containersource", False),
    ("a binding of nothing", "overlays/sinkbinding/sinkbinding.yaml", "    kind: Deployment\n    name: dynamodb-streams-adapter",
     "    kind: Deployment\n    name: adapter", "K_SINK is never set", "overlays/sinkbinding", False),
    ("a policy that protects nothing", "components/network-policy/network-policy.yaml", "adapter: standalone", "adapter: other",
     "protects no pod", "components/network-policy", False),
    ("a policy whose DNS is the adapter itself", "components/network-policy/network-policy.yaml",
     "            matchExpressions: [{ key: k8s-app, operator: In, values: [kube-dns] }]", "            matchLabels: { k8s-app: kube-dns }",
     "keeps the adapter from DNS", "combinations of deployment", False),
    ("a way to the node's credentials", "components/network-policy/network-policy.yaml", ", except: [169.254.0.0/16]", "",
     "lets the adapter to the node's credentials", "combinations of containersource", False),
    ("a Service of two adapters", "base/service.yaml", "  selector:\n    app.kubernetes.io/name: dynamodb-streams-adapter\n"
     "    app.kubernetes.io/instance: dynamodb-streams-adapter\n", "  selector:\n    app.kubernetes.io/name: dynamodb-streams-adapter\n",
     "chooses the other adapter's pod too", "combinations of sinkbinding", False),
    ("a ServiceMonitor that does not follow", "components/service-monitor/selectors.yaml", "kind: ServiceMonitor", "kind: Other",
     "is scraped 0 times", "combinations of deployment", False),
    ("a PodMonitor that scrapes the second adapter's pod", "components/sidecar-monitor/selectors.yaml", "kind: PodMonitor",
     "kind: Other", "is scraped 2 times", "combinations of sidecar", False),
    ("a ContainerSource's pod without the label", "overlays/containersource/references.yaml",
     "    path: spec/template/metadata/labels", "    path: spec/other", "does not protect its adapter",
     "combinations of containersource", False),
    ("one claim for two applications", "overlays/native-sidecar/kustomization.yaml", "fieldPaths: [metadata.name]",
     "fieldPaths: [spec.accessModes.0]", "both keep positions on the claim", "combinations of native-sidecar", False),
    ("a page that is another alert's", "components/runbook-url/pages.yaml", "rules/0/annotations/runbook_url, value: BASE/docs/runbook/data-loss.md",
     "rules/0/annotations/runbook_url, value: BASE/docs/runbook/process.md", "has the address", "components/runbook-url", False),
    ("a strategy that the server refuses", "components/sidecar/container.yaml", "    type: RollingUpdate\n    rollingUpdate:\n"
     "      maxSurge: 0\n      maxUnavailable: 1\n", "    type: Recreate\n    rollingUpdate: null\n", "beside Recreate",
     "combinations of sidecar", False),
    ("the application's time to end", "components/native-sidecar/init-container.yaml", "    spec:\n      initContainers:",
     "    spec:\n      terminationGracePeriodSeconds: 60\n      initContainers:", "the application's to set",
     "combinations of native-sidecar", False),
    ("the application's group", "components/positions-table/init-container.yaml", "    spec:\n      initContainers:",
     "    spec:\n      securityContext: { fsGroup: null }\n      initContainers:", "cannot write its volumes",
     "combinations of native-sidecar", False),
    ("a policy that takes the scaler's label for DNS", "scaler/network-policy.yaml",
     "            matchExpressions: [{ key: k8s-app, operator: In, values: [kube-dns] }]", "            matchLabels: { k8s-app: kube-dns }",
     "keeps the adapter from DNS", "combinations of the scaler", False),
    ("a policy that takes the scaler's label for KEDA's", "scaler/network-policy.yaml",
     "            matchExpressions: [{ key: app, operator: In, values: [keda-operator] }]", "            matchLabels: { app: keda-operator }",
     "keeps KEDA's operator from", "combinations of the scaler", False),
    ("an object without a name to find it by", "overlays/sinkbinding/sinkbinding.yaml",
     "    app.kubernetes.io/name: dynamodb-streams-adapter\n", "", "has no label app.kubernetes.io/name",
     "combinations of sinkbinding", False),
    ("too little memory for a drain", DEPLOYMENT, "memory: 128Mi", "memory: 64Mi", "evicted first", "overlays/deployment", False),
    ("a bigger buffer in the same memory", SETTINGS, "      - SHUTDOWN_TIMEOUT=25s",
     "      - SHUTDOWN_TIMEOUT=25s\n      - BUFFER_MEMORY=96MiB", "evicted first", "overlays/sidecar", False),
    ("a trust policy for a namespace in which nothing runs", "iam/irsa-trust.json", "system:serviceaccount:shop:",
     "system:serviceaccount:default:", "which no example makes", "commands", False),
    ("a Deployment that no command finds", DEPLOYMENT, "  name: dynamodb-streams-adapter\n  labels", "  name: adapter\n  labels",
     "makes deployment dynamodb-streams-adapter", "commands", False),
    ("a claim that is pruned with the application", "components/positions-volume/claim.yaml",
     "    kustomize.toolkit.fluxcd.io/prune: disabled\n", "", "is pruned", "overlays/deployment", False),
    ("an action that the program never calls", "iam/read-table.json", '"dynamodb:GetRecords"]',
     '"dynamodb:GetRecords", "dynamodb:UpdateItem"]', "never calls dynamodb:UpdateItem", "iam", False),
    ("an action that is missing", "iam/read-table.json", ', "dynamodb:GetRecords"]', "]", "are needed", "iam", False),
    ("reading every table", "iam/read-table.json", "table/Orders/stream/*", "*", "not what the call is about", "iam", False),
    ("positions that cannot be written", "iam/positions-table.json", '"dynamodb:PutItem", ', "", "are needed", "iam", False),
    ("positions of every table", "iam/positions-table.json", "table/dynamodb-streams-adapter", "*", "not what the call is about",
     "iam", False),
    ("a role that everybody may assume", "iam/cross-account-trust.json",
     '{ "AWS": "arn:aws:iam::123456789012:role/dynamodb-streams-adapter" }', '"*"', "everybody", "iam", False),
    ("a key that decrypts everything", "iam/decrypt-table.json", '"kms:ViaService"', '"kms:CallerAccount"', "whatever else", "iam",
     False),
    ("a resource that everybody may read", "iam/stream-resource-policy.json",
     '{ "AWS": "arn:aws:iam::123456789012:role/dynamodb-streams-adapter" }', '"*"', "everybody", "iam", False),
    ("a Terraform file that grants more", "iam/terraform/role.tf", '"dynamodb:GetRecords"]', '"dynamodb:GetRecords", "dynamodb:Scan"]',
     "dynamodb:Scan", "terraform", False),
    ("a Terraform file that trusts another account", "iam/terraform/role.tf", "system:serviceaccount:${var.namespace}",
     "system:serviceaccount:default", "irsa-trust.json", "terraform", False),
    ("a Terraform file that breaks off", "iam/terraform/role.tf", 'output "role_arn" {', 'output "role_arn" ', "syntax", "terraform", False),
    ("a reference to nothing in Terraform", "iam/terraform/role.tf", "role_arn        = aws_iam_role.adapter.arn",
     "role_arn        = aws_iam_role.reader.arn", "aws_iam_role.reader is not there", "terraform", False),
    ("tags under the external id", "iam/cross-account-trust.json", '"Action": "sts:AssumeRole"',
     '"Action": ["sts:AssumeRole", "sts:TagSession"]', "is no key of it", "iam", False),
    ("another key lost by a patch", "replace/integration-source/image/images.yaml", "  aws-ddb-streams-source: adapter-image",
     "  aws-ddb-streams-source: adapter-image\n  timer-source: adapter-image", "the patched object", "patches", False),
    ("a kustomization that does not say for whom it is", "components/irsa/kustomization.yaml", "# For EKS", "# EKS", "for whom", "texts", False),
    ("a tag that is not the program's version", "components/image/kustomization.yaml", 'newTag: "0.1.0"', 'newTag: "0.0.9"',
     "the program's version", "texts", False),
]


def copy(repository, place):
    """Copies what kustomizations may refer to; returns the copy of `manifests/`."""
    for name in ("manifests", "dashboards"):
        if (repository / name).exists():
            shutil.copytree(repository / name, place / name)
    return place / "manifests"


def check(report, check_one):
    """`check_one(report, root, case, starts)` runs the checks of one case on another copy of the manifests."""
    for broken, file, text, instead, word, case, starts in BREAKS:
        if case == "patches" and not shutil.which("kubectl"):
            report.check("the tests themselves", f"they see {broken}", Ignored("kubectl is not installed"))
            continue
        report.check("the tests themselves", f"they see {broken}",
                     list(unseen(file, text, instead, word, lambda one, root: check_one(one, root, case, starts))))


def unseen(file, text, instead, word, run):
    with tempfile.TemporaryDirectory() as directory:
        root = copy(REPOSITORY, pathlib.Path(directory))
        path = root / file
        original = path.read_text()
        if original.count(text) == 0:
            yield f"{file} has no {text!r} any more: break it in another way"
            return
        path.write_text(original.replace(text, instead, 1))
        inner = Report()
        run(inner, root)
        if not any(word in failure for failure in inner.failures):
            yield f"nothing says {word!r}: {inner.failures}"
