// sandbox package layer makes $layer. With this file in a CDK app: new SandboxedFunction(app, "$name").
import { Duration, Stack, aws_lambda as lambda } from "aws-cdk-lib";
import { Construct } from "constructs";

export class SandboxedFunction extends Stack {
  constructor(scope: Construct, id: string) {
    super(scope, id);
    const architecture = lambda.Architecture.$cdk_arch;
    const layer = new lambda.LayerVersion(this, "SandboxLayer", {
      code: lambda.Code.fromAsset("$layer"),
      compatibleArchitectures: [architecture],
    });
    new lambda.Function(this, "Function", {
      functionName: "$name",
      code: lambda.Code.fromAsset("$code"),
      handler: "$handler",
      runtime: new lambda.Runtime("$runtime"),
      architecture,
      timeout: Duration.seconds(30),
      layers: [layer],
      environment: {
        AWS_LAMBDA_EXEC_WRAPPER: "/opt/sandbox/wrapper",
        SANDBOX_POLICY: "/opt/sandbox/$policy",$shared
        SANDBOX_MODE: "audit", // first reports what it would refuse; remove once `sandbox promote` says yes$audit
      },
    });
  }
}
