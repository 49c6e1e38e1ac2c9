"""What a project says of its functions (SAM, Serverless, CDK, Dockerfile), and what to write so that they are trained.

Readers are pure: from a parsed document to functions. A template is a stranger's: it is never executed, its variables
are resolved only where it holds their value itself, and no file outside the project's folder is opened.
"""
