# The adapter's role with its trust policy and its permissions: those of irsa-trust.json or pod-identity-trust.json, read-table.json and, with
# positions in a DynamoDB table, positions-table.json. The tests compare them.

variable "region" {
  type    = string
  default = "eu-west-1"
}

variable "account" {
  type    = string
  default = "123456789012"
}

variable "table" {
  description = "The table whose stream is read."
  type        = string
  default     = "Orders"
}

variable "positions_table" {
  description = "The table of positions, with CHECKPOINT_STORE=dynamodb:<table>; empty without one."
  type        = string
  default     = "dynamodb-streams-adapter"
}

variable "namespace" {
  type    = string
  default = "shop"
}

variable "service_account" {
  description = "With the name prefix, if there is one."
  type        = string
  default     = "dynamodb-streams-adapter"
}

variable "cluster" {
  description = "With EKS Pod Identity: the cluster's name. Empty for IRSA."
  type        = string
  default     = "example"
}

variable "oidc_provider" {
  description = "For IRSA: the cluster's issuer without https://."
  type        = string
  default     = "oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE0000000000000000000000000"
}

locals {
  table_arn     = "arn:aws:dynamodb:${var.region}:${var.account}:table/${var.table}"
  positions_arn = "arn:aws:dynamodb:${var.region}:${var.account}:table/${var.positions_table}"
}

data "aws_iam_policy_document" "irsa_trust" {
  statement {
    sid     = "OneServiceAccountOfOneCluster"
    effect  = "Allow"
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = ["arn:aws:iam::${var.account}:oidc-provider/${var.oidc_provider}"]
    }
    condition {
      test     = "StringEquals"
      variable = "${var.oidc_provider}:aud"
      values   = ["sts.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "${var.oidc_provider}:sub"
      values   = ["system:serviceaccount:${var.namespace}:${var.service_account}"]
    }
  }
}

data "aws_iam_policy_document" "pod_identity_trust" {
  statement {
    sid     = "OneServiceAccountOfOneCluster"
    effect  = "Allow"
    actions = ["sts:AssumeRole", "sts:TagSession"]
    principals {
      type        = "Service"
      identifiers = ["pods.eks.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/eks-cluster-name"
      values   = ["${var.cluster}"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/kubernetes-namespace"
      values   = ["${var.namespace}"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/kubernetes-service-account"
      values   = ["${var.service_account}"]
    }
  }
}

data "aws_iam_policy_document" "read_table" {
  statement {
    sid       = "FindTheStream"
    effect    = "Allow"
    actions   = ["dynamodb:DescribeTable"]
    resources = ["${local.table_arn}"]
  }
  statement {
    sid       = "ReadTheStream"
    effect    = "Allow"
    actions   = ["dynamodb:DescribeStream", "dynamodb:GetShardIterator", "dynamodb:GetRecords"]
    resources = ["${local.table_arn}/stream/*"]
  }
}

data "aws_iam_policy_document" "positions_table" {
  statement {
    sid       = "KeepPositions"
    effect    = "Allow"
    actions   = ["dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:DeleteItem"]
    resources = ["${local.positions_arn}"]
  }
  statement {
    sid       = "CheckTheTable"
    effect    = "Allow"
    actions   = ["dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive"]
    resources = ["${local.positions_arn}"]
  }
}

resource "aws_iam_role" "adapter" {
  name = "dynamodb-streams-adapter"
  assume_role_policy = (
    var.cluster != "" ? data.aws_iam_policy_document.pod_identity_trust.json : data.aws_iam_policy_document.irsa_trust.json
  )
}

resource "aws_iam_role_policy" "read_table" {
  name   = "read-table"
  role   = aws_iam_role.adapter.id
  policy = data.aws_iam_policy_document.read_table.json
}

resource "aws_iam_role_policy" "positions_table" {
  count  = var.positions_table != "" ? 1 : 0
  name   = "positions-table"
  role   = aws_iam_role.adapter.id
  policy = data.aws_iam_policy_document.positions_table.json
}

resource "aws_eks_pod_identity_association" "adapter" {
  count           = var.cluster != "" ? 1 : 0
  cluster_name    = var.cluster
  namespace       = var.namespace
  service_account = var.service_account
  role_arn        = aws_iam_role.adapter.arn
}

# For component `irsa`: the annotation eks.amazonaws.com/role-arn of the ServiceAccount.
output "role_arn" {
  value = aws_iam_role.adapter.arn
}
