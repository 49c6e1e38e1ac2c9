# sandbox package layer makes $layer.
resource "aws_lambda_layer_version" "sandbox" {
  layer_name               = "$name-sandbox"
  filename                 = "$layer"
  source_code_hash         = filebase64sha256("$layer")
  compatible_architectures = ["$lambda_arch"]
}

variable "role_arn" {
  type = string
}

resource "aws_lambda_function" "function" {
  function_name = "$name"
  filename      = "$code"
  handler       = "$handler"
  runtime       = "$runtime"
  architectures = ["$lambda_arch"]
  role          = var.role_arn
  timeout       = 30
  layers        = [aws_lambda_layer_version.sandbox.arn]

  environment {
    variables = {
      AWS_LAMBDA_EXEC_WRAPPER = "/opt/sandbox/wrapper"
      SANDBOX_POLICY          = "/opt/sandbox/$policy"$shared
      SANDBOX_MODE            = "audit" # first reports what it would refuse; remove once `sandbox promote` says yes$audit
    }
  }
}
