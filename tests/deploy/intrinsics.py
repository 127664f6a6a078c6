"""Templates with CloudFormation's functions evaluated, without a deployment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_aws import ACCOUNT, REGION
from samtranslator.yaml_helper import yaml_parse

PSEUDO = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": "stack",
    "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/stack/1",
}
# The last parts of the ARNs of a stack's resources.
ARNS = {
    "AWS::CloudWatch::Alarm": "cloudwatch:{place}:alarm:{name}",
    "AWS::CloudWatch::CompositeAlarm": "cloudwatch:{place}:alarm:{name}",
    "AWS::DynamoDB::Table": "dynamodb:{place}:table/{name}",
    "AWS::Events::Rule": "events:{place}:rule/{name}",
    "AWS::IAM::Role": f"iam::{ACCOUNT}:role/{{name}}",
    "AWS::Logs::LogGroup": "logs:{place}:log-group:{name}:*",
    "AWS::Serverless::Function": "lambda:{place}:function:{name}",
    "AWS::SNS::Topic": "sns:{place}:{name}",
    "AWS::SQS::Queue": "sqs:{place}:{name}",
}
NO_VALUE = object()


@dataclass
class Template:
    """A template with values of parameters."""

    path: Path
    parameters: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.yaml = yaml_parse(self.path.read_text())
        unknown = self.parameters.keys() - self.yaml["Parameters"].keys()
        assert not unknown, unknown

    def resources(self, kind: str) -> Iterator[tuple[str, dict]]:
        """Returns the resources of a type that exist, with their properties."""
        for name, resource in self.yaml["Resources"].items():
            if resource["Type"] == kind and self.condition(resource.get("Condition")):
                yield name, self.evaluate(resource["Properties"])

    def name(self, resource: str) -> str:
        """Returns the name of a resource."""
        properties = self.yaml["Resources"][resource].get("Properties", {})
        return self.evaluate(properties["AlarmName"]) if "AlarmName" in properties else f"stack-{resource}"

    def arn(self, resource: str) -> str:
        """Returns the ARN of a resource."""
        form = ARNS[self.yaml["Resources"][resource]["Type"]]
        return "arn:aws:" + form.format(place=f"{REGION}:{ACCOUNT}", name=self.name(resource))

    def condition(self, name: str | None) -> bool:
        return name is None or self.evaluate(self.yaml["Conditions"][name])

    def evaluate(self, node: Any) -> Any:
        """Returns a part of the template without functions."""
        if isinstance(node, list):
            return [value for value in map(self.evaluate, node) if value is not NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            (function, argument), *_ = node.items()
            if function == "Ref" or function.startswith("Fn::"):
                return getattr(self, "_" + function.removeprefix("Fn::").lower())(argument)
        values = {key: self.evaluate(value) for key, value in node.items()}
        return {key: value for key, value in values.items() if value is not NO_VALUE}

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self.yaml["Resources"]:
            is_topic = self.yaml["Resources"][name]["Type"] == "AWS::SNS::Topic"
            return self.arn(name) if is_topic else self.name(name)
        parameter = self.yaml["Parameters"][name]
        value = self.parameters.get(name, parameter.get("Default", ""))
        return value.split(",") if parameter["Type"] == "CommaDelimitedList" else value

    def _getatt(self, argument: str | list[str]) -> str:
        name, attribute = argument.split(".") if isinstance(argument, str) else argument
        return self.arn(name) if attribute == "Arn" else self.name(name)

    def _sub(self, argument: str | list) -> str:
        text, variables = argument if isinstance(argument, list) else (argument, {})

        def value(match: re.Match) -> str:
            name = match[1]
            if name in variables:
                return str(self.evaluate(variables[name]))
            return str(self._getatt(name) if "." in name else self._ref(name))

        return re.sub(r"\$\{([^!}][^}]*)\}", value, text)

    def _if(self, argument: list) -> Any:
        condition, yes, no = argument
        return self.evaluate(yes if self.condition(condition) else no)

    def _equals(self, argument: list) -> bool:
        one, other = self.evaluate(argument)
        return str(one) == str(other)

    def _not(self, argument: list) -> bool:
        return not self.evaluate(argument[0])

    def _or(self, argument: list) -> bool:
        return any(self.evaluate(argument))

    def _and(self, argument: list) -> bool:
        return all(self.evaluate(argument))

    def _select(self, argument: list) -> str:
        index, values = self.evaluate(argument)
        return values[int(index)]

    def _split(self, argument: list) -> list[str]:
        separator, text = self.evaluate(argument)
        return text.split(separator)

    def _join(self, argument: list) -> str:
        separator, values = self.evaluate(argument)
        return separator.join(values)

    def _findinmap(self, argument: list) -> Any:
        name, first, second = self.evaluate(argument)
        return self.yaml["Mappings"][name][str(first)][str(second)]
