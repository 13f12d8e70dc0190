"""What a container of ours finds in its environment, and whether the binary knows all of it."""

import os
import re
import subprocess

from objects import named

# What an existing controller sets and the binary translates: Knative's IntegrationSource, TriggerMesh's AWSDynamoDBSource.
FOREIGN = re.compile(
    r"CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_[A-Z_]+|CAMEL_KNATIVE_CLIENT_[A-Z_]+|ARN|METRICS_PROMETHEUS_PORT"
    r"|K_(LOGGING|METRICS|TRACING)_CONFIG"
)
# Variables of the AWS SDK for Rust; a name that is not here is most likely a spelling mistake.
AWS = re.compile(
    r"AWS_(REGION|DEFAULT_REGION|PROFILE|ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|ROLE_ARN|ROLE_SESSION_NAME"
    r"|WEB_IDENTITY_TOKEN_FILE|CONTAINER_[A-Z_]+|CONFIG_FILE|SHARED_CREDENTIALS_FILE|ENDPOINT_URL(_[A-Z_]+)?"
    r"|USE_FIPS_ENDPOINT|USE_DUALSTACK_ENDPOINT|EC2_METADATA_[A-Z_]+|CA_BUNDLE|MAX_ATTEMPTS|RETRY_MODE)"
)
# Documented variables that this build may not have yet: what each is for.
COMING = {
    "K_CA_CERTS": "authorities trusted for the sink",
    "DEAD_LETTER_SINK": "the second sink",
    "RETRY_MAX_ATTEMPTS": "the limit of attempts",
    "RETRY_MAX_AGE": "the limit of age",
}
DURATIONS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def help_text():
    done = subprocess.run([os.environ["ADAPTER"], "--help"], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


HELP = help_text()
KNOWN = set(re.findall(r"^  ([A-Z][A-Z0-9_]+)\b", HELP, re.MULTILINE))


def seconds(duration):
    """The seconds of `1m30s`."""
    return sum(int(number) * DURATIONS[unit] for number, unit in re.findall(r"(\d+)(ms|s|m|h)", duration))


def size(text):
    """The bytes of `64MiB` or of Kubernetes' `64Mi`."""
    number, unit = re.fullmatch(r"(\d+)([KMG])iB?", text).groups()
    return int(number) << {"K": 10, "M": 20, "G": 30}[unit]


def default_of(name):
    """The default that the help text says."""
    entry = re.search(rf"^  {name} .*?\[default:\s+(\S+)\]", HELP, re.MULTILINE | re.DOTALL)
    return entry.group(1)


def unknown(variables):
    """Names that the binary does not know, and those it will."""
    names = [name for name in variables if not (name in KNOWN or FOREIGN.fullmatch(name) or AWS.fullmatch(name))]
    return [name for name in names if name not in COMING], [name for name in names if name in COMING]


def of_container(objects, container):
    """Names and values, as the kubelet would set them; `None` where the value is the reader's or the cluster's."""
    variables = {}
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            variables.update(data_of(objects, "ConfigMap", source["configMapRef"]["name"]))
        if "secretRef" in source:
            variables.update(data_of(objects, "Secret", source["secretRef"]["name"]))
    for variable in container.get("env", []):
        variables[variable["name"]] = variable.get("value", "") if "valueFrom" not in variable else None
    return variables


def data_of(objects, kind, name):
    """A Secret is the reader's own: its values are unknown here."""
    data = named(objects, kind).get(name, {}).get("data", {})
    return data if kind == "ConfigMap" else dict.fromkeys(data)


def of_integration_source(source):
    """What Knative's controller sets on the container that it starts for an IntegrationSource.

    Source: `GenerateEnvVarsFromStruct` and `makeEnv` in knative/eventing, pkg/reconciler/integration.
    """
    prefix = "CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_"
    aws = source["spec"]["aws"]
    defaults = {"DELAY": "0", "OVERRIDEENDPOINT": "false"}
    given = {name.upper(): str(value) for name, value in aws["ddbStreams"].items()}
    variables = {prefix + name: value for name, value in {**defaults, **given}.items()}
    if "secret" in aws.get("auth", {}):
        variables.update({prefix + "ACCESSKEY": None, prefix + "SECRETKEY": None})
    return {
        **variables,
        "CAMEL_KNATIVE_CLIENT_SSL_ENABLED": "true",
        "CAMEL_KNATIVE_CLIENT_SSL_CERT_PATH": "/knative-custom-certs/knative-eventing-bundle.pem",
        "K_SINK": "http://broker-ingress.knative-eventing.svc/default/default",
        "K_CE_OVERRIDES": "",
    }


def of_dynamodb_source(source):
    """What TriggerMesh's controller sets on the container that it starts for an AWSDynamoDBSource."""
    credentials = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    overrides = source["spec"].get("adapterOverrides", {}).get("env", [])
    return {
        "ARN": source["spec"]["arn"],
        **credentials,
        "K_SINK": "http://broker-ingress.knative-eventing.svc/default/default",
        "K_SINK_TIMEOUT": "30",
        "NAMESPACE": "default",
        "NAME": source["metadata"]["name"],
        "K_COMPONENT": "awsdynamodbsource",
        "METRICS_PROMETHEUS_PORT": "9092",
        "K_LOGGING_CONFIG": "{}",
        "K_METRICS_CONFIG": "{}",
        "K_TRACING_CONFIG": "{}",
        **{variable["name"]: variable["value"] for variable in overrides},
    }
