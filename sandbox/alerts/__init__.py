"""What a log of ours says, as alarms elsewhere want it: OCSF findings, CloudWatch metrics, Security Hub findings."""
